/// base — what every other room stands on: errors, owned handles, files opened and published safely, durations, JSON text.
///
/// Promises: a function returns its error and never logs it; nothing throws across this boundary; no file is opened by a path that
/// another user could have replaced underneath. Knows no other room and keeps no state.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <deque>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/types.h>

#include <nlohmann/json_fwd.hpp>

namespace promwarden {

// ---- errors ---------------------------------------------------------------------------------------------------------

/// What went wrong, as far as a caller has to act on it.
enum class Code {
    invalid,      // the input is wrong; the same call fails again
    missing,      // it is not there
    denied,       // the caller lacks a privilege
    untrusted,    // somebody who must not could change what was named
    unsupported,  // this kernel or system cannot
    stale,        // the world changed since the caller looked; look again
    conflict,     // somebody else holds it
    limit,        // a bound that protects us was reached
    failed,       // anything else; `number` says more
};

/// One failed action. Rendered once, at the edge: "open /etc/prometheus/web.yml: Permission denied".
struct Error {
    Code code = Code::failed;
    int number = 0;  // errno, or 0
    std::string action;
    std::string subject;
    std::string detail;

    [[nodiscard]] std::string text() const;
};

template <class T = void>
using Result = std::expected<T, Error>;

[[nodiscard]] std::unexpected<Error> fail(Code code, std::string action, std::string subject, std::string detail = {});
/// From errno; the code follows from the number (ENOENT: missing, EPERM and EACCES: denied, ERESTART: stale …).
[[nodiscard]] std::unexpected<Error> fail_errno(std::string action, std::string subject, int number = errno);

/// The value of a Result, or return its error from the enclosing function. (A statement expression: g++ and clang have it.)
#define TRY(expression) TRY_NAMED(expression, __COUNTER__)  // numbered, because one may stand in another
#define TRY_NAMED(expression, number) TRY_PASTED(expression, number)
#define TRY_PASTED(expression, number) TRY_RESULT(expression, try_result_##number)
#define TRY_RESULT(expression, result)                                                               \
    __extension__({                                                                                  \
        auto result = (expression);                                                                  \
        if (!result) return std::unexpected(std::move(result).error());                              \
        *std::move(result);                                                                          \
    })

// ---- owned handles --------------------------------------------------------------------------------------------------

/// A file descriptor, closed exactly once.
class Fd {
public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd& operator=(Fd&& other) noexcept;
    ~Fd();

    [[nodiscard]] int operator*() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    [[nodiscard]] int release() { return std::exchange(fd_, -1); }

private:
    int fd_ = -1;
};

template <auto Free>
struct Freed {
    template <class T>
    void operator()(T* pointer) const { Free(pointer); }
};
/// A C library's object with the function that frees it: Handle<mnl_socket, mnl_socket_close>.
template <class T, auto Free>
using Handle = std::unique_ptr<T, Freed<Free>>;

// ---- files ----------------------------------------------------------------------------------------------------------

/// What identifies one state of a file's contents. Equal stamps: nothing was written in between.
struct FileStamp {
    dev_t device = 0;
    ino_t inode = 0;
    std::int64_t size = 0;
    std::int64_t modified = 0;  // nanoseconds since the epoch
    std::int64_t changed = 0;   // nanoseconds since the epoch
    bool operator==(const FileStamp&) const = default;
};

struct File {
    std::string text;
    FileStamp stamp;
    uid_t owner = 0;
    gid_t group = 0;
    mode_t mode = 0;
};

/// The text of a regular file, at most `limit` bytes. FIFOs, devices and directories are refused before they are opened.
Result<File> read_file(const std::string& path, std::size_t limit);

/// Opens one for reading by the same rules, for a reader that needs only parts of it.
Result<Fd> open_regular(const std::string& path);

/// As read_file, for files we obey: refused (Code::untrusted) where anyone but root (or, for a caller who is not root, that caller) could write the file or
/// replace any component of its path, symbolic links on the way included. More than 40 links are a loop (ELOOP).
Result<File> read_trusted_file(const std::string& path, std::size_t limit);

/// The stamp of a regular file, by the same trust rule, without opening it: whether it changed, or whether a program may be obeyed.
Result<FileStamp> trusted_stamp(const std::string& path);

/// The names in a directory that end in `suffix`, sorted, with the same trust rule for the directory. A missing directory has none.
Result<std::vector<std::string>> list_trusted_directory(const std::string& path, std::string_view suffix);

/// Replaces `path` by a new file: temporary in the same directory, mode set before it has a name, fsync, rename, fsync of the directory.
/// A reader sees the old contents or the new, also after a crash. The directory must be one that only we can write.
Result<> publish_file(const std::string& path, std::string_view contents, mode_t mode);

/// Removes a file and makes that durable; a missing one is fine.
Result<> remove_file(const std::string& path);

/// Locks a file of ours, which is made where it is missing, until the descriptor is closed. Held by somebody else for ten seconds: Code::conflict.
Result<Fd> lock_file(const std::string& path);

/// For rooms that write or walk by descriptor themselves: all of `contents`; the target of a symbolic link that was opened by O_PATH; a path's components, without
/// empty ones and ".", put before those that are still to be walked. `path` is for errors.
Result<> write_all(const Fd& fd, std::string_view contents, const std::string& path);
Result<std::string> link_target(const Fd& link, const std::string& path);
void put_before(std::deque<std::string>& parts, std::string_view path);

/// Makes a directory and its missing parents; one that exists is left as it is.
Result<> make_directory(const std::string& path, mode_t mode);

// ---- text -----------------------------------------------------------------------------------------------------------

/// "90s", "5m", "24h", "30d", "1h30m": whole numbers with units s, m, h, d, w.
Result<std::chrono::seconds> parse_duration(std::string_view text);
std::string format_duration(std::chrono::seconds value);

/// RFC 3339 in UTC, "2026-11-22T10:00:00Z"; with `microseconds`, "2026-11-22T10:00:00.000123Z".
std::string format_time(std::chrono::system_clock::time_point time, bool microseconds = false);
Result<std::chrono::system_clock::time_point> parse_time(std::string_view text);

/// Lower-case hexadecimal SHA-256.
std::string sha256(std::string_view bytes);

/// The candidate nearest to `word` by edit distance, if it is near enough to be a slip of the pen.
std::optional<std::string_view> nearest(std::string_view word, const std::vector<std::string_view>& candidates);

/// Objects keep the order in which their keys were written.
using Json = nlohmann::ordered_json;

/// JSON from a peer: depth limited, duplicate keys and anything after the value refused, UTF-8 only. Objects have at most `members` keys each: building one
/// costs the square of their number.
Result<Json> parse_json(std::string_view text, int depth = 16, std::size_t members = SIZE_MAX);
/// One line. Bytes that are not UTF-8 are replaced, never thrown about.
std::string json_text(const Json& value);

}  // namespace promwarden
