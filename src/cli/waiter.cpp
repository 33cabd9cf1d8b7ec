// The process that a trial leaves behind where no agent runs. The deadline is on disk: should it die, whoever comes next does its work.

#include <ctime>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "local.hpp"

namespace promwarden::cli {

namespace {

constexpr int most_attempts = 30;

/// Away from everything of the caller: session, terminal, directory, descriptors, signals of a closing terminal.
void detach() {
    ::setsid();
    for (const int ignored : {SIGHUP, SIGINT, SIGQUIT, SIGPIPE}) ::signal(ignored, SIG_IGN);
    if (::chdir("/") != 0) ::_exit(1);
    ::umask(077);
    ::close_range(0, ~0U, 0);
    for (int fd = 0; fd < 3; ++fd) ::open("/dev/null", O_RDWR);  // takes 0, 1 and 2
    ::prctl(PR_SET_NAME, "promwarden-wait");
}

void sleep_for(std::chrono::nanoseconds time) {
    timespec until{};
    ::clock_gettime(CLOCK_BOOTTIME, &until);
    const auto end = std::chrono::seconds(until.tv_sec) + std::chrono::nanoseconds(until.tv_nsec) + time;
    until = {std::chrono::floor<std::chrono::seconds>(end).count(), (end % std::chrono::seconds(1)).count()};
    while (::clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &until, nullptr) == EINTR) {}
}

bool settle_once(const std::string& directory) {
    auto engine = Engine::open(State::at(directory));
    return engine && settle(*engine).has_value();
}

[[noreturn]] void wait_and_settle(const std::string& directory, std::chrono::nanoseconds time) {
    detach();
    sleep_for(time);
    for (int attempt = 0; attempt < most_attempts && !settle_once(directory); ++attempt) sleep_for(std::chrono::seconds(1));
    ::_exit(0);
}

}  // namespace

Or<> leave_waiter(const Options& options) {
    const auto directory = [&]() -> Result<std::string> {
        const Handle<char, ::free> absolute{::realpath(options.state.c_str(), nullptr)};
        if (absolute == nullptr) return fail_errno("find", options.state);
        return std::string(absolute.get());
    }();
    const auto absolute = TRY(directory);
    const auto trial = TRY(State::at(absolute).trial());
    if (!trial) return {};
    // Two forks: the waiter is nobody's child, so that nobody has to wait for it.
    const pid_t child = ::fork();
    if (child < 0) return std::unexpected(Failure(fail_errno("fork", "").error()));
    if (child == 0) {
        if (::fork() == 0) wait_and_settle(absolute, remaining(*trial) + std::chrono::milliseconds(1));
        ::_exit(0);
    }
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {}
    return {};
}

}  // namespace promwarden::cli
