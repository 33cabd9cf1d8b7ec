// Programs that are not ours, run with a bounded time and a bounded answer, as somebody who owns nothing of ours.

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "parts.hpp"

namespace promwarden::program {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t most_errors = 16 << 10;

struct Pipe {
    Fd read, write;
};
Result<Pipe> make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("make a pipe", "");
    return Pipe{Fd(ends[0]), Fd(ends[1])};
}

void limit(int what, rlim_t most) {
    const rlimit value{most, most};
    ::setrlimit(static_cast<__rlimit_resource>(what), &value);
}

/// Directories of its own in the place of the host's, but for the resolvers. In a container that may not mount they stay the host's.
void hide(const std::vector<std::string>& directories) {
    if (directories.empty() || ::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return;
    std::array<int, resolvers.size()> kept{};
    std::ranges::transform(resolvers, kept.begin(), [](const char* path) { return ::open(path, O_PATH | O_DIRECTORY | O_CLOEXEC); });
    for (const auto& directory : directories) ::mount("none", directory.c_str(), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755");
    for (std::size_t i = 0; i < kept.size(); ++i) {
        if (kept[i] < 0 || ::access(resolvers[i], F_OK) == 0) continue;
        std::array<char, 32> source{};
        std::snprintf(source.data(), source.size(), "/proc/self/fd/%d", kept[i]);
        ::mkdir("/run/systemd", 0755);
        ::mkdir(resolvers[i], 0755);
        ::mount(source.data(), resolvers[i], nullptr, MS_BIND, nullptr);
    }
}

/// Only what may be called between fork and exec.
[[noreturn]] void become(const std::array<int, 3>& ends, const std::optional<std::pair<uid_t, gid_t>>& user, const Program& program, char* const* words, char* const* environment) {
    constexpr int failed = 127;
    ::setsid();
    for (int i = 0; i < 3; ++i)
        if (::dup2(ends[static_cast<std::size_t>(i)], i) < 0) ::_exit(failed);
    ::close_range(3, ~0u, 0);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, program.privileged ? 65536 : 256);  // a server opens a log for each of its sites
    limit(RLIMIT_FSIZE, 16 << 20);
    limit(RLIMIT_CPU, 120);
    hide(program.empty);
    if (user && (::setgroups(1, &user->second) != 0 || ::setgid(user->second) != 0 || ::setuid(user->first) != 0)) ::_exit(failed);
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) ::_exit(failed);
    if (::chdir(program.directory.c_str()) != 0) ::_exit(failed);
    ::umask(0077);
    ::execve(words[0], words, environment);
    ::_exit(failed);
}

/// Feeds it and listens to it until it ends, says too much, or takes too long.
class Conversation {
public:
    Conversation(const Program& program, Fd input, Fd output, Fd errors)
        : program_(program), input_(std::move(input)), output_(std::move(output)), errors_(std::move(errors)), until_(Clock::now() + program.time) {}

    Result<> hold(Ended& ended) {
        while (output_ || errors_) {
            std::array<pollfd, 3> waiting{{{input_ ? *input_ : -1, POLLOUT, 0}, {output_ ? *output_ : -1, POLLIN, 0}, {errors_ ? *errors_ : -1, POLLIN, 0}}};
            const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until_ - Clock::now()).count();
            if (left <= 0) return fail(Code::limit, "run", program_.words.front(), fmt::format("not done within {}", format_duration(program_.time)));
            if (::poll(waiting.data(), waiting.size(), static_cast<int>(left)) < 0 && errno != EINTR) return fail_errno("run", program_.words.front());
            if (waiting[0].revents != 0) feed();
            if (waiting[1].revents != 0) listen(output_, ended.output, program_.most);
            if (waiting[2].revents != 0) listen(errors_, ended.errors, most_errors);
            if (ended.output.size() > program_.most) return fail(Code::limit, "run", program_.words.front(), fmt::format("it said more than {} bytes", program_.most));
        }
        return {};
    }

private:
    void feed() {
        const auto wrote = ::write(*input_, program_.input.data() + fed_, program_.input.size() - fed_);
        if (wrote > 0) fed_ += static_cast<std::size_t>(wrote);
        if ((wrote < 0 && errno != EAGAIN && errno != EINTR) || fed_ == program_.input.size()) input_ = Fd();  // one that does not read may still answer
    }
    static void listen(Fd& from, std::string& into, std::size_t most) {
        std::array<char, 4096> buffer{};
        const auto got = ::read(*from, buffer.data(), buffer.size());
        if (got > 0 && into.size() <= most) into.append(buffer.data(), static_cast<std::size_t>(got));
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) from = Fd();
    }

    const Program& program_;
    Fd input_, output_, errors_;
    std::size_t fed_ = 0;
    Clock::time_point until_;
};

int wait_for(pid_t child) {
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Result<Ended> run(const Program& program) {
    const auto& path = program.words.front();
    TRY(trusted_stamp(path));  // nobody but root could have put another program there
    std::optional<std::pair<uid_t, gid_t>> user;
    if (!program.user.empty() && ::geteuid() == 0) {
        const auto* entry = ::getpwnam(program.user.c_str());
        if (entry == nullptr) return fail(Code::missing, "run", path, fmt::format("there is no user '{}' to run it", program.user));
        user = {entry->pw_uid, entry->pw_gid};
    }
    auto in = TRY(make_pipe()), out = TRY(make_pipe()), errors = TRY(make_pipe());
    std::vector<char*> words, environment;
    for (const auto& word : program.words) words.push_back(const_cast<char*>(word.c_str()));
    for (const auto& variable : program.environment) environment.push_back(const_cast<char*>(variable.c_str()));
    words.push_back(nullptr);
    environment.push_back(nullptr);
    const pid_t child = ::fork();
    if (child < 0) return fail_errno("run", path);
    if (child == 0) become({*in.read, *out.write, *errors.write}, user, program, words.data(), environment.data());
    in.read = Fd();
    out.write = Fd();
    errors.write = Fd();
    ::fcntl(*in.write, F_SETFL, O_NONBLOCK);
    const NoBrokenPipe kept;
    Ended ended;
    const auto held = Conversation(program, program.input.empty() ? Fd() : std::move(in.write), std::move(out.read), std::move(errors.read)).hold(ended);
    in.write = Fd();
    if (!held) ::kill(-child, SIGKILL);
    if (!held) ::kill(child, SIGKILL);
    ended.status = wait_for(child);
    ::kill(-child, SIGKILL);  // what it left behind in its session
    if (!held) return std::unexpected(held.error());
    return ended;
}

Result<Ended> run_somewhere(const Program& program, const std::string& unit) { return manager_runs() ? run_in_unit(program, unit) : run(program); }

bool manager_runs() { return ::sd_booted() > 0; }

std::string said(const Ended& ended) {
    auto text = ended.errors.empty() ? ended.output : ended.errors;
    if (text.size() > 400) text.erase(0, text.size() - 400);
    std::ranges::replace_if(text, [](char c) { return c < 0x20 || c == 0x7f; }, ' ');
    return text;
}

}  // namespace promwarden::program
