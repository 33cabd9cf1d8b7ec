// Transitions in the journal: structured fields, one message id for each kind.

#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>

#include "agent.hpp"

namespace promwarden {

namespace {

constexpr std::array<std::string_view, 6> message_ids{
    "0d1d3c5f6f1e4a0ab6a2a6a3f4d9c701",  // drift
    "5b7a1f0f5c0e4c3f9d4f2d8a6b1e0c02",  // heal
    "9e2f4b7c8d1a4f60a3c5e7d9b1f2a303",  // rotation
    "c4a6e8f01b3d4572961e8a0c2d4f6b04",  // policy
    "2f8d6b4a0c1e43f7b5d9e7c1a3f5d905",  // apply
    "7c9e1a3b5d7f4812a6c0e2d4f6b8a106",  // undo
};

/// Whether standard error is the journal itself, so that writing to both would say everything twice.
bool stderr_is_journal() {
    struct stat status {};
    unsigned long device = 0, inode = 0;
    const char* stream = std::getenv("JOURNAL_STREAM");
    return stream != nullptr && std::sscanf(stream, "%lu:%lu", &device, &inode) == 2 && ::fstat(2, &status) == 0 && status.st_dev == device && status.st_ino == inode;
}

void send(int priority, const std::vector<std::string>& fields) {
    std::vector<iovec> vector;
    const auto level = fmt::format("PRIORITY={}", priority);
    vector.push_back({const_cast<char*>(level.data()), level.size()});
    for (const auto& field : fields) vector.push_back({const_cast<char*>(field.data()), field.size()});
    sd_journal_sendv(vector.data(), static_cast<int>(vector.size()));
}

}  // namespace

void log_event(const Event& event) {
    const auto by = event.by ? fmt::format(" by {} (pid {})", event.by->comm, event.by->pid) : std::string();
    const auto gap = event.gap ? fmt::format(" after {} us", event.gap->count()) : std::string();
    const auto message = fmt::format("{}: {}: {}{}{}", to_text(event.kind), event.subject, event.observed, by, gap);
    if (!stderr_is_journal()) fmt::print(stderr, "{}\n", message);
    std::vector<std::string> fields{"MESSAGE=" + message, fmt::format("MESSAGE_ID={}", message_ids[static_cast<std::size_t>(event.kind)]),
                                    "PROMWARDEN_KIND=" + std::string(to_text(event.kind)), "PROMWARDEN_CONTROL=" + event.control,
                                    "PROMWARDEN_SUBJECT=" + event.subject, "PROMWARDEN_EXPECTED=" + event.expected, "PROMWARDEN_OBSERVED=" + event.observed};
    if (event.by) {
        fields.push_back("PROMWARDEN_BY_COMM=" + event.by->comm);
        fields.push_back(fmt::format("PROMWARDEN_BY_PID={}", event.by->pid));
        fields.push_back("PROMWARDEN_BY_EXE=" + event.by->exe);
        if (event.by->loginuid) fields.push_back(fmt::format("PROMWARDEN_BY_LOGINUID={}", *event.by->loginuid));
    }
    if (event.gap) fields.push_back(fmt::format("PROMWARDEN_GAP_USEC={}", event.gap->count()));
    send(event.kind == Event::Kind::drift ? 4 : 5, fields);
}

void log_problem(const std::string& text) {
    if (!stderr_is_journal()) fmt::print(stderr, "promwardend: {}\n", text);
    send(3, {"MESSAGE=" + text});
}

}  // namespace promwarden
