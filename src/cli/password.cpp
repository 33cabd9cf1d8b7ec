#include "password.hpp"

#include <csignal>

#include <fmt/format.h>
#include <termios.h>
#include <unistd.h>

namespace promwarden::cli {

namespace {

constexpr std::size_t longest_line = 4096;
constexpr char interrupt = 3;

/// While it lives, a terminal shows nothing of what is typed, and no signal can leave it so.
class Silence {
public:
    Silence() {
        sigset_t all;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_BLOCK, &all, &signals_);
        ::tcgetattr(STDIN_FILENO, &before_);
        auto silent = before_;
        silent.c_lflag &= ~static_cast<tcflag_t>(ECHO | ISIG);  // ^C is a byte then, and ends a line
        silent.c_cc[VEOL] = interrupt;
        ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    }
    ~Silence() {
        ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
        ::pthread_sigmask(SIG_SETMASK, &signals_, nullptr);
    }
    Silence(const Silence&) = delete;
    Silence& operator=(const Silence&) = delete;

private:
    termios before_{};
    sigset_t signals_{};
};

/// Up to the end of the line, which is not part of it.
Or<std::string> read_line() {
    std::string line;
    for (char c = 0; line.size() <= longest_line;) {
        const auto got = ::read(STDIN_FILENO, &c, 1);  // one at a time: what follows belongs to whoever reads next
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return std::unexpected(Failure(fail_errno("read", "the password").error()));
        if (got == 0 && line.empty()) return failure(Exit::usage, "no password was given");
        if (got == 0 || c == '\n') {
            if (line.ends_with('\r')) line.pop_back();
            return line;
        }
        if (c == interrupt) return failure(Exit::usage, "interrupted; nothing was changed");
        line += c;
    }
    return failure(Exit::usage, "the password is far too long");
}

void prompt(std::string_view text) { (void)!::write(STDERR_FILENO, text.data(), text.size()); }

}  // namespace

Or<std::string> read_password(std::string_view whose) {
    if (::isatty(STDIN_FILENO) != 1) return read_line();
    const Silence silence;
    prompt(fmt::format("Password of {}: ", whose));
    auto first = read_line();
    prompt("\nOnce more: ");
    const auto second = first ? read_line() : first;
    prompt("\n");
    if (first && second && *first != *second) return failure(Exit::usage, "the two passwords differ; nothing was changed");
    return second ? std::move(first) : second;
}

}  // namespace promwarden::cli
