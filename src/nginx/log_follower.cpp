// A log that is followed. Its writer and whoever rotates it are somebody else; they do not ask whether we have read everything.

#include <algorithm>
#include <array>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "promwarden/audit_log.hpp"

namespace promwarden::nginx {

namespace {

constexpr std::size_t head_most = 256;                      // the first line has a time and an address in it
constexpr auto patience = std::chrono::milliseconds(1900);  // for a writer that still has the old name's file
constexpr std::size_t most_entries = 10'000;

Result<struct stat> status_of(const Fd& fd, const std::string& path) {
    struct stat status{};
    if (::fstat(*fd, &status) != 0) return fail_errno("read", path);
    return status;
}

Result<std::string> head_of(const Fd& fd, std::size_t size, const std::string& path) {
    std::string head(size, '\0');
    const auto got = ::pread(*fd, head.data(), head.size(), 0);
    if (got < 0) return fail_errno("read", path);
    head.resize(static_cast<std::size_t>(got));
    return head;
}

/// The files beside it whose names begin with its name: where rotation puts it.
std::vector<std::string> renamed(const std::string& path) {
    const auto directory = path.substr(0, path.rfind('/') + 1), base = path.substr(path.rfind('/') + 1);
    std::vector<std::string> paths;
    const Handle<DIR, ::closedir> stream{::opendir(directory.c_str())};
    std::size_t entries = 0;
    while (const dirent* entry = stream ? ::readdir(stream.get()) : nullptr)
        if (++entries > most_entries)
            break;
        else if (std::string_view(entry->d_name).starts_with(base))
            paths.push_back(directory + entry->d_name);
    return paths;
}

}  // namespace

std::optional<LogPosition> LogFollower::position(std::uint64_t pending) const {
    if (!fd_) return from_;
    auto position = at_;
    position.offset -= std::min(pending, position.offset);
    return position;
}

Result<> LogFollower::use(Fd fd, std::uint64_t offset) {
    const auto status = TRY(status_of(fd, path_));
    at_ = {status.st_dev, status.st_ino, offset, 0, {}};
    fd_ = std::move(fd);
    renamed_.reset();
    from_.reset();
    return {};
}

/// The file of the position that was given, under whatever name it has now.
Result<bool> LogFollower::resume() {
    for (const auto& path : renamed(path_)) {
        struct stat status{};
        if (::stat(path.c_str(), &status) != 0 || status.st_dev != from_->device || status.st_ino != from_->inode) continue;
        auto fd = TRY(open_regular(path));
        const auto head = TRY(head_of(fd, from_->head_size, path));
        const bool same = head.size() == from_->head_size && (head.empty() || sha256(head) == from_->head) &&
                          static_cast<std::uint64_t>(status.st_size) >= from_->offset;
        const auto offset = same ? from_->offset : 0;
        TRY(use(std::move(fd), offset));
        return true;
    }
    return false;
}

/// False where there is no file.
Result<bool> LogFollower::open() {
    if (from_ && TRY(resume())) return true;
    auto fd = open_regular(path_);
    if (!fd && fd.error().code == Code::missing) {
        seen_ = true;
        return false;
    }
    if (!fd) return std::unexpected(fd.error());
    const auto status = TRY(status_of(*fd, path_));
    const bool new_to_us = !seen_ && !from_;  // what is in it already was refused long ago
    seen_ = true;
    TRY(use(*std::move(fd), new_to_us ? static_cast<std::uint64_t>(status.st_size) : 0));
    return true;
}

/// Shorter than what was read of it, or with another beginning: it was emptied, and is read from its beginning.
Result<> LogFollower::notice_truncation(const Reader& reader) {
    const auto status = TRY(status_of(fd_, path_));
    auto head = TRY(head_of(fd_, head_most, path_));
    const bool emptied = static_cast<std::uint64_t>(status.st_size) < at_.offset || head.size() < at_.head_size ||
                         (at_.head_size > 0 && sha256(std::string_view(head).substr(0, at_.head_size)) != at_.head);
    if (emptied) {
        reader.end_file();
        at_.offset = 0;
    }
    if (emptied || head.size() > at_.head_size) {
        at_.head_size = head.size();
        at_.head = head.empty() ? "" : sha256(head);
    }
    return {};
}

Result<LogFollower::Next> LogFollower::at_end(const Reader& reader) {
    struct stat status{};
    const bool there = ::stat(path_.c_str(), &status) == 0;
    if (there && status.st_dev == at_.device && status.st_ino == at_.inode) {
        renamed_.reset();
        return Next::wait;
    }
    const auto now = std::chrono::steady_clock::now();
    if (!renamed_) renamed_ = now;
    if (now - *renamed_ < patience) return Next::later;
    if (!there) return Next::wait;
    auto fd = open_regular(path_);
    if (!fd) return std::unexpected(fd.error());
    reader.end_file();
    TRY(use(*std::move(fd), 0));
    return Next::again;
}

Result<LogFollower::Next> LogFollower::read(std::size_t most, const Reader& reader) {
    if (!fd_ && !TRY(open())) return Next::wait;
    TRY(notice_truncation(reader));
    std::array<char, 16 << 10> buffer{};
    for (std::size_t have = 0; have < most;) {
        const auto got = ::pread(*fd_, buffer.data(), std::min(buffer.size(), most - have), static_cast<off_t>(at_.offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno("read", path_);
        if (got == 0) return at_end(reader);
        reader.take({buffer.data(), static_cast<std::size_t>(got)});
        at_.offset += static_cast<std::uint64_t>(got);
        have += static_cast<std::size_t>(got);
    }
    return Next::again;
}

}  // namespace promwarden::nginx
