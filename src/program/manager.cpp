// The service manager's own socket, as systemctl uses it for root: it answers before and without D-Bus.

#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "parts.hpp"

namespace promwarden::program {

namespace {

constexpr int reload_milliseconds = 30'000;

}  // namespace

Result<> reload_units() {
    std::array<const char*, 4> words{"systemctl", "--quiet", "daemon-reload", nullptr};
    std::array<const char*, 2> environment{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", nullptr};
    pid_t child = 0;
    if (const int error = ::posix_spawn(&child, "/usr/bin/systemctl", nullptr, nullptr, const_cast<char**>(words.data()), const_cast<char**>(environment.data())); error != 0)
        return fail_errno("run", "/usr/bin/systemctl", error);
    const Fd handle{static_cast<int>(::syscall(SYS_pidfd_open, child, 0))};  // the libc of Debian 12 declares its own for C only
    pollfd ended{*handle, POLLIN, 0};
    const bool in_time = ::poll(&ended, 1, reload_milliseconds) == 1;
    if (!in_time) ::kill(child, SIGKILL);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (!in_time) return fail(Code::failed, "reload", "the service manager's units", fmt::format("no answer in {} ms", reload_milliseconds));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return fail(Code::failed, "reload", "the service manager's units", "systemctl daemon-reload failed");
    return {};
}

}  // namespace promwarden::program
