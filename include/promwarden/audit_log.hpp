/// audit_log — the proxy's audit log as it grows: a file followed across rotation, and the refused requests among its lines. Part of the room nginx.
///
/// What stands in the log was written by strangers. Promises: memory does not grow with a line or a file; nothing of a line is kept or shown; a line is counted
/// once, whatever rotates or truncates the file, whoever of writer and reader is restarted.
#pragma once

#include <array>
#include <functional>

#include "promwarden/base.hpp"

namespace promwarden::nginx {

/// Counts requests that were refused with 401, in JSON lines that come in pieces of any size. Questions of our own probe are left out: they offer no password, or
/// the name of a user that nobody can have, so that nobody can hide a guess behind them.
class AuthFailures {
public:
    struct Counts {
        std::uint64_t given = 0;       // with a user's name and the wrong password
        std::uint64_t none = 0;        // with no credentials that the log shows: a session that was over or forged looks like this, too
        std::uint64_t unreadable = 0;  // lines that are no JSON object with a status
        bool operator==(const Counts&) const = default;
    };

    AuthFailures() = default;
    explicit AuthFailures(const Counts& before) : counts_(before) {}

    void feed(std::string_view bytes);
    /// What follows is another file: a line that was not finished never will be.
    void end_file();
    [[nodiscard]] const Counts& counts() const { return counts_; }
    /// Bytes since the last end of a line.
    [[nodiscard]] std::uint64_t pending() const { return pending_; }

private:
    static constexpr std::size_t longest_word = 32;  // of keys and values that matter

    /// A word as far as it can matter. One that is longer is none of those that are looked for.
    struct Word {
        std::array<char, longest_word> text{};
        std::size_t size = 0;
        void clear() { size = 0; }
        void add(char c);
        [[nodiscard]] std::string_view view() const {
            return size > longest_word ? std::string_view() : std::string_view(text.data(), size);
        }
        [[nodiscard]] bool is(std::string_view other) const { return view() == other && size == other.size(); }
    };

    void put(char c);
    void put_outside(char c);
    void end_value();
    void end_line();

    Counts counts_;
    std::uint64_t pending_ = 0;
    // Of the line that is being read:
    int depth_ = 0;
    bool broken_ = false, in_string_ = false, escaped_ = false, is_key_ = false, closed_ = false;
    Word key_, value_;
    int status_ = 0;
    bool has_user_ = false, of_probe_ = false;
};

/// How far a file was read. The file is known by its number and by how it begins: one that was truncated and written anew is another.
struct LogPosition {
    std::uint64_t device = 0, inode = 0, offset = 0;
    std::uint64_t head_size = 0;
    std::string head;  // SHA-256 of its first `head_size` bytes
    bool operator==(const LogPosition&) const = default;
};

class LogFollower {
public:
    /// From the beginning where there is no file yet; from a position, if its file is still there, renamed or not; else from the end of the file that is there.
    LogFollower(std::string path, std::optional<LogPosition> from) : path_(std::move(path)), from_(std::move(from)) {}

    enum class Next : std::uint8_t {
        wait,   // everything is read; where there is a file, until it or its name changes
        again,  // there may be more already
        later,  // the file was renamed, and its writer may not have noticed yet: look again in two seconds
    };
    struct Reader {
        std::function<void(std::string_view)> take;
        std::function<void()> end_file;
    };
    /// Hands on what was written since, at most `most` bytes of it. An error leaves the position as it is.
    Result<Next> read(std::size_t most, const Reader& reader);

    /// The descriptor of the file that is read; -1 where there is none.
    [[nodiscard]] int fd() const { return *fd_; }
    /// Without the last `pending` bytes.
    [[nodiscard]] std::optional<LogPosition> position(std::uint64_t pending) const;
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    Result<bool> open();
    Result<bool> resume();
    Result<> use(Fd fd, std::uint64_t offset);
    Result<> notice_truncation(const Reader& reader);
    Result<Next> at_end(const Reader& reader);

    std::string path_;
    std::optional<LogPosition> from_;  // until the first file is open
    bool seen_ = false;                // that there was no file, or one of ours
    Fd fd_;
    LogPosition at_;
    std::optional<std::chrono::steady_clock::time_point> renamed_;
};

}  // namespace promwarden::nginx
