// The side that asks: connects to a worker, or starts one.

#include <array>
#include <climits>
#include <csignal>

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "promwarden/probe.hpp"

namespace promwarden::probe {

namespace {

constexpr auto account = "promwarden-probe";
constexpr auto no_account = "nobody";
constexpr int inherited = 3;  // the descriptor of the worker's socket
constexpr auto grace = std::chrono::seconds(1);

Result<Fd> connect_to(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return fail(Code::invalid, "connect to", path, "the path is too long");
    path.copy(address.sun_path, path.size());
    Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return fail_errno("open", "a socket");
    if (::connect(*fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
    if (errno == ECONNREFUSED) return fail(Code::missing, "connect to", path, "nobody answers there");
    return fail_errno("connect to", path);
}

/// As whom the worker runs. The caller's own ids where the caller is not root.
struct Ids {
    uid_t uid = 0;
    gid_t gid = 0;
    bool change = false;
};
Result<Ids> worker_ids() {
    if (::geteuid() != 0) return Ids{::getuid(), ::getgid(), false};
    for (const auto* name : {account, no_account})
        if (const auto* entry = ::getpwnam(name); entry != nullptr && entry->pw_uid != 0) return Ids{entry->pw_uid, entry->pw_gid, true};
    return fail(Code::missing, "find", fmt::format("user {}", account), "and there is no user nobody either");
}

Result<std::string> worker_program(const ClientOptions& options) {
    if (!options.program.empty()) return options.program;
    std::array<char, PATH_MAX> self{};
    const auto length = ::readlink("/proc/self/exe", self.data(), self.size());
    if (length < 0) return fail_errno("read link", "/proc/self/exe");
    const std::string_view path(self.data(), static_cast<std::size_t>(length));
    const auto beside = std::string(path.substr(0, path.rfind('/') + 1)) + account;
    for (const auto& candidate : {beside, std::string(PROMWARDEN_SBINDIR "/promwarden-probe")})
        if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    return fail(Code::missing, "find", "promwarden-probe", fmt::format("it is neither {} nor in {}", beside, PROMWARDEN_SBINDIR));
}

/// In the child, between vfork and exec: only system calls. Whatever fails ends it.
[[noreturn]] void become_worker(int socket, const Ids& ids, const char* program, const char* policy) {
    const auto must = [](bool done) {
        if (!done) ::_exit(126);
    };
    must(socket == inherited ? ::fcntl(socket, F_SETFD, 0) == 0 : ::dup2(socket, inherited) == inherited);
    const Fd nothing(::open("/dev/null", O_RDWR));
    must(static_cast<bool>(nothing));
    for (const int fd : {0, 1, 2}) must(::dup2(*nothing, fd) == fd);
    must(::close_range(inherited + 1, UINT_MAX, 0) == 0);
    must(::chdir("/") == 0);
    ::umask(0077);
    ::setsid();
    ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (ids.change) {
        for (int capability = 0; ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0; ++capability) {}
        must(::setgroups(0, nullptr) == 0);
        must(::setresgid(ids.gid, ids.gid, ids.gid) == 0);
        must(::setresuid(ids.uid, ids.uid, ids.uid) == 0);
        ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);  // forgotten with the change of the user
    }
    must(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    const std::array<const char*, 5> words{account, "--inherited", "--policy", policy, nullptr};
    const std::array<const char*, 1> environment{nullptr};
    ::execve(program, const_cast<char* const*>(words.data()), const_cast<char* const*>(environment.data()));
    ::_exit(127);
}

}  // namespace

Client::Client(Client&& other) noexcept : fd_(std::move(other.fd_)), worker_(std::exchange(other.worker_, 0)) {}

Client& Client::operator=(Client&& other) noexcept {
    if (this == &other) return *this;
    end();
    fd_ = std::move(other.fd_);
    worker_ = std::exchange(other.worker_, 0);
    return *this;
}

Client::~Client() { end(); }

void Client::end() {
    fd_ = Fd();
    if (worker_ == 0) return;
    ::kill(worker_, SIGKILL);  // it keeps nothing that could be left half done
    while (::waitpid(worker_, nullptr, 0) < 0 && errno == EINTR) {}
    worker_ = 0;
}

Result<Client> Client::open(const ClientOptions& options) {
    if (!options.socket.empty()) {
        auto connected = connect_to(options.socket);
        if (connected) return Client(*std::move(connected), 0);
        if (connected.error().code != Code::missing && ::geteuid() == 0) return std::unexpected(std::move(connected).error());
    }
    const auto program = TRY(worker_program(options));
    const auto ids = TRY(worker_ids());
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) return fail_errno("make", "a pair of sockets");
    Fd ours(ends[0]);
    const Fd theirs(ends[1]);
    // An agent may hold a million sources: its memory is neither copied nor written to, and the lists of its pages stay its own.
    const auto child = ::vfork();
    if (child < 0) return fail_errno("fork", program);
    if (child == 0) become_worker(*theirs, ids, program.c_str(), options.policy.c_str());
    return Client(std::move(ours), child);
}

Result<> Client::send(const Request& request) {
    const auto text = encode(request);
    if (text.size() > longest_request) return fail(Code::limit, "ask", "promwarden-probe", "the question is too long");
    const auto sent = ::send(*fd_, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent == static_cast<ssize_t>(text.size()) ? Result<>{} : fail_errno("ask", "promwarden-probe");
}

Result<std::optional<Result<Answer>>> Client::receive() {
    std::string buffer(longest_answer, '\0');
    const auto length = ::recv(*fd_, buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
    if (length < 0) return fail_errno("listen to", "promwarden-probe");
    if (length == 0) return fail(Code::failed, "listen to", "promwarden-probe", "it ended");
    if (static_cast<std::size_t>(length) > buffer.size()) return fail(Code::limit, "listen to", "promwarden-probe", "the answer is too long");
    return TRY(decode_answer({buffer.data(), static_cast<std::size_t>(length)}));
}

Result<Answer> Client::ask(const Request& request) {
    TRY(send(request));
    const auto deadline = std::chrono::steady_clock::now() + request.timeout + grace;
    for (;;) {
        if (auto answer = TRY(receive())) return *std::move(answer);  // of the worker: an answer or an error
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        if (left.count() <= 0) return fail_errno("listen to", "promwarden-probe", ETIMEDOUT);
        pollfd one{*fd_, POLLIN, 0};
        if (::poll(&one, 1, static_cast<int>(left.count())) < 0 && errno != EINTR) return fail_errno("listen to", "promwarden-probe");
    }
}

}  // namespace promwarden::probe
