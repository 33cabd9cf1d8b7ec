// A program in a transient unit: the service manager starts it, with a user that it makes up and nothing of ours but three descriptors.

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <poll.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "parts.hpp"

namespace promwarden::program {

namespace {

constexpr const char* manager = "org.freedesktop.systemd1";
constexpr const char* manager_path = "/org/freedesktop/systemd1";
constexpr const char* manager_interface = "org.freedesktop.systemd1.Manager";

void close_bus(sd_bus* bus) { ::sd_bus_flush_close_unref(bus); }
void free_message(sd_bus_message* message) { ::sd_bus_message_unref(message); }
void free_slot(sd_bus_slot* slot) { ::sd_bus_slot_unref(slot); }
using Bus = Handle<sd_bus, close_bus>;
using Message = Handle<sd_bus_message, free_message>;

/// Adds up errors, so that a list of properties is a list.
class Properties {
public:
    explicit Properties(sd_bus_message* message) : message_(message) {}
    template <class... Values>
    void add(const char* name, const char* type, Values... values) {
        if (error_ >= 0) error_ = ::sd_bus_message_append(message_, "(sv)", name, type, values...);
    }
    void add_words(const char* name, const std::vector<std::string>& words) {
        begin(name, "as");
        check(::sd_bus_message_open_container(message_, 'a', "s"));
        for (const auto& word : words) check(::sd_bus_message_append(message_, "s", word.c_str()));
        check(::sd_bus_message_close_container(message_));
        end();
    }
    /// Empty and its own, but for the resolvers.
    void add_empty(const std::vector<std::string>& directories) {
        begin("TemporaryFileSystem", "a(ss)");
        check(::sd_bus_message_open_container(message_, 'a', "(ss)"));
        for (const auto& directory : directories) check(::sd_bus_message_append(message_, "(ss)", directory.c_str(), "mode=0755"));
        check(::sd_bus_message_close_container(message_));
        end();
        begin("BindReadOnlyPaths", "a(ssbt)");
        check(::sd_bus_message_open_container(message_, 'a', "(ssbt)"));
        for (const auto* path : resolvers) check(::sd_bus_message_append(message_, "(ssbt)", path, path, 1, std::uint64_t{0}));
        check(::sd_bus_message_close_container(message_));
        end();
    }
    void add_command(const std::vector<std::string>& words) {
        begin("ExecStart", "a(sasb)");
        check(::sd_bus_message_open_container(message_, 'a', "(sasb)"));
        check(::sd_bus_message_open_container(message_, 'r', "sasb"));
        check(::sd_bus_message_append(message_, "s", words.front().c_str()));
        check(::sd_bus_message_open_container(message_, 'a', "s"));
        for (const auto& word : words) check(::sd_bus_message_append(message_, "s", word.c_str()));
        check(::sd_bus_message_close_container(message_));
        check(::sd_bus_message_append(message_, "b", 0));
        check(::sd_bus_message_close_container(message_));
        check(::sd_bus_message_close_container(message_));
        end();
    }
    [[nodiscard]] int error() const { return error_; }

private:
    void begin(const char* name, const char* type) {
        check(::sd_bus_message_open_container(message_, 'r', "sv"));
        check(::sd_bus_message_append(message_, "s", name));
        check(::sd_bus_message_open_container(message_, 'v', type));
    }
    void end() {
        check(::sd_bus_message_close_container(message_));
        check(::sd_bus_message_close_container(message_));
    }
    void check(int result) {
        if (error_ >= 0 && result < 0) error_ = result;
    }
    sd_bus_message* message_;
    int error_ = 0;
};

struct Job {
    std::string path, result;
};
int on_job_removed(sd_bus_message* message, void* data, sd_bus_error*) {
    auto& job = *static_cast<Job*>(data);
    std::uint32_t id = 0;
    const char *path = nullptr, *unit = nullptr, *result = nullptr;
    if (::sd_bus_message_read(message, "uoss", &id, &path, &unit, &result) >= 0 && job.path == path) job.result = result;
    return 0;
}

/// What a server needs to open its keys, its logs and its ports, and to give its directories to its workers.
constexpr std::uint64_t of_a_server = 1U << CAP_CHOWN | 1U << CAP_DAC_OVERRIDE | 1U << CAP_DAC_READ_SEARCH | 1U << CAP_FOWNER | 1U << CAP_NET_BIND_SERVICE;

struct Ends {
    Fd input, output, errors;  // ours
};

int put_sandbox(Properties& all, const Program& program, const std::array<int, 3>& theirs) {
    all.add("Type", "s", "oneshot");
    all.add("Description", "s", "a program that promwarden runs");
    all.add("StandardInputFileDescriptor", "h", theirs[0]);
    all.add("StandardOutputFileDescriptor", "h", theirs[1]);
    all.add("StandardErrorFileDescriptor", "h", theirs[2]);
    all.add("TimeoutStartUSec", "t", static_cast<std::uint64_t>(std::chrono::microseconds(program.time).count()));
    all.add("CollectMode", "s", "inactive-or-failed");
    if (program.privileged) {
        all.add("User", "s", "root");
    } else if (program.user.empty()) {
        all.add("DynamicUser", "b", 1);
        all.add_words("StateDirectory", {"promwarden-issuer/" + program.keeps});
        all.add("StateDirectoryMode", "u", std::uint32_t{0700});
        all.add("WorkingDirectory", "s", ("/var/lib/promwarden-issuer/" + program.keeps).c_str());
    } else {
        all.add("User", "s", program.user.c_str());
    }
    if (!program.environment.empty()) all.add_words("Environment", program.environment);
    for (const auto* flag : {"NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectClock",
                             "ProtectHostname", "RestrictSUIDSGID", "RestrictRealtime", "LockPersonality", "RemoveIPC"})
        all.add(flag, "b", 1);
    all.add("ProtectSystem", "s", "strict");
    all.add("ProtectHome", "s", program.privileged ? "read-only" : "yes");
    if (!program.empty.empty()) all.add_empty(program.empty);
    if (!program.writable.empty()) all.add_words("ReadWritePaths", program.writable);
    all.add("ProtectProc", "s", "invisible");
    all.add("RestrictNamespaces", "t", std::uint64_t{0});
    all.add("CapabilityBoundingSet", "t", program.privileged ? of_a_server : std::uint64_t{0});
    all.add("AmbientCapabilities", "t", std::uint64_t{0});
    all.add("MemoryMax", "t", std::uint64_t{512} << 20);
    all.add("TasksMax", "t", std::uint64_t{64});
    all.add("LimitCORE", "t", std::uint64_t{0});
    all.add("LimitFSIZE", "t", std::uint64_t{16} << 20);
    all.add("UMask", "u", std::uint32_t{0077});
    all.add_command(program.words);
    return all.error();
}

Result<std::string> start(sd_bus* bus, const Program& program, const std::string& unit, const std::array<int, 3>& theirs) {
    sd_bus_message* made = nullptr;
    int error = ::sd_bus_message_new_method_call(bus, &made, manager, manager_path, manager_interface, "StartTransientUnit");
    const Message message(made);
    if (error >= 0) error = ::sd_bus_message_append(message.get(), "ss", unit.c_str(), "fail");
    if (error >= 0) error = ::sd_bus_message_open_container(message.get(), 'a', "(sv)");
    if (error >= 0) {
        Properties all(message.get());
        error = put_sandbox(all, program, theirs);
    }
    if (error >= 0) error = ::sd_bus_message_close_container(message.get());
    if (error >= 0) error = ::sd_bus_message_append(message.get(), "a(sa(sv))", 0);
    if (error < 0) return fail_errno("start", unit, -error);
    sd_bus_error why = SD_BUS_ERROR_NULL;
    sd_bus_message* answered = nullptr;
    error = ::sd_bus_call(bus, message.get(), 0, &why, &answered);
    const Message answer(answered);
    const std::string text = why.message == nullptr ? "" : why.message;
    ::sd_bus_error_free(&why);
    if (error < 0) return fail(Code::failed, "start", unit, text);
    const char* job = nullptr;
    if (::sd_bus_message_read(answer.get(), "o", &job) < 0) return fail(Code::failed, "start", unit, "no job");
    return std::string(job);
}

/// Reads what there is; false at the end.
bool drain(Fd& from, std::string& into, std::size_t most) {
    std::array<char, 4096> buffer{};
    for (;;) {
        const auto got = ::read(*from, buffer.data(), buffer.size());
        if (got < 0) return errno == EAGAIN || errno == EINTR;
        if (got == 0) return false;
        if (into.size() <= most) into.append(buffer.data(), static_cast<std::size_t>(got));
    }
}

}  // namespace

namespace {

/// A job for a unit, until it is done.
Result<> do_job(const char* method, const char* action, const std::string& unit, std::chrono::seconds patience) {
    sd_bus* opened = nullptr;
    if (const int error = ::sd_bus_open_system(&opened); error < 0) return fail(Code::unsupported, action, unit, "no service manager answers");
    const Bus bus(opened);
    Job job;
    sd_bus_slot* slot = nullptr;
    ::sd_bus_match_signal(bus.get(), &slot, manager, manager_path, manager_interface, "JobRemoved", on_job_removed, &job);
    const Handle<sd_bus_slot, free_slot> match(slot);
    ::sd_bus_call_method(bus.get(), manager, manager_path, manager_interface, "Subscribe", nullptr, nullptr, "");
    sd_bus_message* answered = nullptr;
    sd_bus_error why = SD_BUS_ERROR_NULL;
    const int error = ::sd_bus_call_method(bus.get(), manager, manager_path, manager_interface, method, &why, &answered, "ss", unit.c_str(), "replace");
    const Message answer(answered);
    const std::string text = why.message == nullptr ? "" : why.message;
    const bool cannot = ::sd_bus_error_has_name(&why, "org.freedesktop.systemd1.JobTypeNotApplicable") > 0;
    ::sd_bus_error_free(&why);
    const char* path = nullptr;
    if (cannot) return fail(Code::unsupported, action, unit, text);
    if (error < 0 || ::sd_bus_message_read(answer.get(), "o", &path) < 0) return fail(Code::failed, action, unit, text);
    job.path = path;
    const auto until = std::chrono::steady_clock::now() + patience;
    while (job.result.empty() && std::chrono::steady_clock::now() < until) {
        while (::sd_bus_process(bus.get(), nullptr) > 0) {}
        if (job.result.empty()) ::sd_bus_wait(bus.get(), 100'000);
    }
    if (job.result != "done") return fail(Code::failed, action, unit, job.result.empty() ? "it takes too long" : "it failed; the journal of the unit says why");
    return {};
}

/// After some failed starts in a row the manager refuses every further one. Where it has no failures to forget, it says so: nothing is lost.
void forget_failures(const std::string& unit) {
    sd_bus* opened = nullptr;
    if (::sd_bus_open_system(&opened) < 0) return;
    const Bus bus(opened);
    ::sd_bus_call_method(bus.get(), manager, manager_path, manager_interface, "ResetFailedUnit", nullptr, nullptr, "s", unit.c_str());
}

}  // namespace

Result<> reload_unit(const std::string& unit) { return do_job("ReloadUnit", "reload", unit, std::chrono::seconds(30)); }

/// A server may take its time to stop (its unit says how much) and to start (replaying its log).
Result<> restart_unit(const std::string& unit) {
    forget_failures(unit);
    return do_job("RestartUnit", "restart", unit, std::chrono::minutes(3));
}

Result<Ended> run_in_unit(const Program& program, const std::string& name) {
    TRY(trusted_stamp(program.words.front()));
    sd_bus* opened = nullptr;
    if (const int error = ::sd_bus_open_system(&opened); error < 0) return fail(Code::unsupported, "start", name, "no service manager answers");
    const Bus bus(opened);
    std::array<std::array<int, 2>, 3> pipes{};
    for (auto& ends : pipes)
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("make a pipe", name);
    Ends ours{Fd(pipes[0][1]), Fd(pipes[1][0]), Fd(pipes[2][0])};
    std::array<Fd, 3> theirs{Fd(pipes[0][0]), Fd(pipes[1][1]), Fd(pipes[2][1])};
    for (const auto* end : {&ours.input, &ours.output, &ours.errors}) ::fcntl(**end, F_SETFL, O_NONBLOCK);
    Job job;
    sd_bus_slot* slot = nullptr;
    ::sd_bus_match_signal(bus.get(), &slot, manager, manager_path, manager_interface, "JobRemoved", on_job_removed, &job);
    const Handle<sd_bus_slot, free_slot> match(slot);
    ::sd_bus_call_method(bus.get(), manager, manager_path, manager_interface, "Subscribe", nullptr, nullptr, "");
    const auto unit = fmt::format("{}-{}.service", name, ::getpid());
    job.path = TRY(start(bus.get(), program, unit, {*theirs[0], *theirs[1], *theirs[2]}));
    for (auto& end : theirs) end = Fd();
    const NoBrokenPipe kept;
    Ended ended;
    std::size_t fed = 0;
    const auto until = std::chrono::steady_clock::now() + program.time + std::chrono::seconds(10);
    while (job.result.empty()) {
        if (ours.input && fed < program.input.size()) {
            const auto wrote = ::write(*ours.input, program.input.data() + fed, program.input.size() - fed);
            if (wrote > 0) fed += static_cast<std::size_t>(wrote);
            else if (errno != EAGAIN && errno != EINTR) ours.input = Fd();
        }
        if (fed == program.input.size()) ours.input = Fd();
        if (ours.output && !drain(ours.output, ended.output, program.most)) ours.output = Fd();
        if (ours.errors && !drain(ours.errors, ended.errors, 16 << 10)) ours.errors = Fd();
        while (::sd_bus_process(bus.get(), nullptr) > 0) {}
        const bool late = std::chrono::steady_clock::now() > until;
        if (late || ended.output.size() > program.most) {
            ::sd_bus_call_method(bus.get(), manager, manager_path, manager_interface, "StopUnit", nullptr, nullptr, "ss", unit.c_str(), "replace");
            return fail(Code::limit, "run", program.words.front(), late ? fmt::format("not done within {}", format_duration(program.time)) : fmt::format("it said more than {} bytes", program.most));
        }
        if (job.result.empty()) ::sd_bus_wait(bus.get(), 20'000);
    }
    if (ours.output) drain(ours.output, ended.output, program.most);
    if (ours.errors) drain(ours.errors, ended.errors, 16 << 10);
    ended.status = job.result == "done" ? 0 : 1;
    return ended;
}

}  // namespace promwarden::program
