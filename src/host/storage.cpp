// From a path down to the devices that hold its bytes, and what encrypts them on the way: by mountinfo and /sys, asking no tool.

#include <algorithm>
#include <charconv>
#include <filesystem>

#include <fmt/format.h>

#include "promwarden/host.hpp"
#include "walk.hpp"

namespace promwarden::host {

namespace {

namespace fs = std::filesystem;

constexpr int most_levels = 32;
constexpr std::size_t most_leaves = 256;

std::string first_line(const fs::path& path) {
    const auto file = read_file(path, 64 << 10);
    return file ? file->text.substr(0, file->text.find('\n')) : std::string();
}

std::vector<std::string> names_in(const fs::path& directory) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end && names.size() < most_leaves; entry.increment(error)) names.push_back(entry->path().filename());
    std::ranges::sort(names);
    return names;
}

/// Formats of dm-crypt that hide what they hold. CRYPT-VERITY and CRYPT-INTEGRITY only detect changes.
std::string_view encryption_of(std::string_view uuid) {
    constexpr std::string_view formats[] = {"CRYPT-LUKS1", "CRYPT-LUKS2", "CRYPT-PLAIN", "CRYPT-TEMP", "CRYPT-LOOPAES", "CRYPT-TCRYPT", "CRYPT-BITLK", "CRYPT-FVAULT2"};
    const auto found = std::ranges::find_if(formats, [&](std::string_view format) { return uuid.starts_with(format) && uuid.substr(format.size()).starts_with('-'); });
    return found == std::end(formats) ? std::string_view{} : *found;
}

/// What is found below one path or swap area.
struct Bottom {
    std::vector<StorageLeaf> leaves;
    std::string sealed_by;
    std::optional<Error> problem;

    void fail(Code code, std::string subject, std::string detail) {
        if (!problem) problem = promwarden::fail(code, "look below", std::move(subject), std::move(detail)).error();
    }
};

class Descent {
public:
    Descent(const Walker& walker, const Places& places, Bottom& bottom) : walker_(walker), places_(places), bottom_(bottom) {}

    /// A file or directory, by what was seen of it.
    void below(const FileStatus& status, const std::string& path, int level) {
        if (level > most_levels) return bottom_.fail(Code::limit, path, "too many levels");
        const auto found = walker_.mounts().find(status.mount);
        const auto* mount = found == walker_.mounts().end() ? nullptr : &found->second;
        if (status.encrypted) return seal("fscrypt", mount == nullptr ? path : mount->source, level);
        if (mount != nullptr && stacked(*mount, path, level)) return;
        if (status.major != 0) return device(fmt::format("{}:{}", status.major, status.minor), level + 1, {});
        if (mount == nullptr) return bottom_.fail(Code::unsupported, path, "its mount is not in our mount namespace");
        if (mount->type == "btrfs") return btrfs(*mount, level);
        named(mount->source, path, level);
    }

    /// "/dev/mapper/data", "/dev/sda2"
    void named(const std::string& source, const std::string& path, int level) {
        const auto name = kernel_name(source);
        if (!name) return bottom_.fail(Code::unsupported, path, fmt::format("{} is no block device that is known here", source));
        node(fs::path(places_.sys) / "class/block" / *name, *name, level + 1, {});
    }

private:
    void seal(std::string by, std::string device, int level) {
        if (level == 0) bottom_.sealed_by = by;
        bottom_.leaves.push_back({std::move(device), std::move(by)});
    }

    /// File systems that stand on another one, on memory, or on another host.
    bool stacked(const Mount& mount, const std::string& path, int level) {
        constexpr std::string_view encrypting[] = {"ecryptfs", "fuse.gocryptfs", "fuse.encfs", "fuse.cryfs", "fuse.securefs"};
        if (std::ranges::find(encrypting, mount.type) != std::end(encrypting)) {
            seal(mount.type.starts_with("fuse.") ? mount.type.substr(5) : mount.type, mount.source, level);
        } else if (mount.type == "tmpfs" || mount.type == "ramfs") {
            seal("memory", mount.type, level);
        } else if (mount.type == "overlay") {
            overlay(mount, path, level);
        } else if (mount.type == "zfs" || mount.type == "bcachefs") {
            bottom_.fail(Code::unsupported, path, fmt::format("{} keeps its encryption to itself: ask `{}`", mount.type, mount.type == "zfs" ? "zfs get encryption " + mount.source : "bcachefs show-super"));
        } else if (may_hang(mount.type)) {
            bottom_.fail(Code::unsupported, path, fmt::format("it is on {} ({}), whose storage cannot be seen from here", mount.source, mount.type));
        } else {
            return false;
        }
        return true;
    }

    void overlay(const Mount& mount, const std::string& path, int level) {
        constexpr std::string_view option = "upperdir=";
        const auto start = mount.options.find(option);
        if (start == std::string::npos) return bottom_.fail(Code::unsupported, path, "an overlay without a directory for what is written");
        NamedFile upper;
        upper.path = mount.options.substr(start + option.size());
        upper.path.resize(std::min(upper.path.find(','), upper.path.size()));
        (void)walker_.walk(upper);
        if (upper.status() == nullptr) return bottom_.fail(Code::missing, upper.path, "the directory below an overlay cannot be seen");
        below(*upper.status(), upper.path, level + 1);
    }

    /// All devices of the file system that the mount's source belongs to.
    void btrfs(const Mount& mount, int level) {
        const auto own = kernel_name(mount.source);
        const auto systems = fs::path(places_.sys) / "fs/btrfs";
        for (const auto& system : names_in(systems)) {
            const auto devices = names_in(systems / system / "devices");
            if (!own || std::ranges::find(devices, *own) == devices.end()) continue;
            for (const auto& name : devices) node(fs::path(places_.sys) / "class/block" / name, name, level + 1, {});
            return;
        }
        named(mount.source, mount.point, level);
    }

    std::optional<std::string> kernel_name(const std::string& source) const {
        std::error_code error;
        const auto classes = fs::path(places_.sys) / "class/block";
        constexpr std::string_view mapper = "/dev/mapper/";
        if (!source.starts_with(mapper)) {
            const auto name = fs::path(source).filename().string();
            return source.starts_with("/dev/") && !name.empty() && fs::exists(classes / name, error) ? std::optional(name) : std::nullopt;
        }
        for (const auto& name : names_in(classes))
            if (name.starts_with("dm-") && first_line(classes / name / "dm/name") == source.substr(mapper.size())) return name;
        return std::nullopt;
    }

    void device(const std::string& number, int level, const std::string& sealed_by) {
        std::error_code error;
        const auto path = fs::canonical(fs::path(places_.sys) / "dev/block" / number, error);
        if (error) return bottom_.fail(Code::unsupported, number, "no block device with that number is known here");
        node(path, path.filename(), level, sealed_by);
    }

    /// One block device: sealed here, or from above, and on what it stands.
    void node(const fs::path& link, const std::string& name, int level, std::string sealed_by) {
        if (level > most_levels || bottom_.leaves.size() >= most_leaves) return bottom_.fail(Code::limit, name, "a stack that does not end");
        std::error_code error;
        const auto path = fs::canonical(link, error);
        if (error) return bottom_.fail(Code::unsupported, name, "it is not described in sysfs");
        if (const auto format = encryption_of(first_line(path / "dm/uuid")); !format.empty() && sealed_by.empty()) sealed_by = fmt::format("{} ({})", name, format);
        if (const auto slaves = names_in(path / "slaves"); !slaves.empty()) {
            for (const auto& slave : slaves) node(path / "slaves" / slave, slave, level + 1, sealed_by);
            return;
        }
        if (const auto backing = first_line(path / "loop/backing_file"); !backing.empty()) return loop(backing, name, level, sealed_by);
        if (fs::exists(path / "partition", error) && composed(path.parent_path())) return node(path.parent_path(), path.parent_path().filename(), level + 1, sealed_by);
        bottom_.leaves.push_back({name, std::move(sealed_by)});
    }

    /// Whether a disk that has partitions is made of something else.
    static bool composed(const fs::path& disk) {
        std::error_code error;
        return !names_in(disk / "slaves").empty() || fs::exists(disk / "loop/backing_file", error);
    }

    void loop(const std::string& backing, const std::string& name, int level, const std::string& sealed_by) {
        if (!sealed_by.empty()) {
            bottom_.leaves.push_back({name, sealed_by});
            return;
        }
        NamedFile file;
        file.path = backing;
        (void)walker_.walk(file);
        if (file.status() == nullptr) return bottom_.fail(Code::missing, name, fmt::format("its file {} cannot be seen", backing));
        below(*file.status(), backing, level + 1);
    }

    const Walker& walker_;
    const Places& places_;
    Bottom& bottom_;
};

StoragePath storage_of(const Walker& walker, const Places& places, const NamedFile& file, const std::string& server) {
    StoragePath found;
    found.path = file.path;
    found.server = server;
    if (file.steps.empty()) {
        found.problem = file.problem;
        return found;
    }
    // What is missing will be made in the directory where the walk ended; a file system that was not entered is known by its mount.
    const auto& status = file.steps.back().status;
    if (const auto mount = walker.mounts().find(status.mount); mount != walker.mounts().end()) {
        found.file_system = mount->second.type;
        found.source = mount->second.source;
    }
    Bottom bottom;
    if (file.problem && file.problem->code == Code::denied) bottom.problem = file.problem;
    else Descent(walker, places, bottom).below(status, file.path, 0);
    found.leaves = std::move(bottom.leaves);
    found.sealed_by = std::move(bottom.sealed_by);
    found.problem = std::move(bottom.problem);
    return found;
}

/// A line of /proc/swaps: "/dev/dm-1 partition 975868 0 -2".
SwapArea swap_of(const Walker& walker, const Places& places, std::string_view line) {
    SwapArea area;
    area.name = line.substr(0, line.find_first_of(" \t"));
    const bool partition = line.contains("partition");
    if (partition && area.name.starts_with("/dev/zram")) {
        area.volatile_memory = true;
        return area;
    }
    Bottom bottom;
    Descent descent(walker, places, bottom);
    if (partition) {
        descent.named(area.name, area.name, 0);
    } else {
        NamedFile file;
        file.path = area.name;
        (void)walker.walk(file);
        if (const auto* status = file.status()) descent.below(*status, area.name, 0);
        else bottom.problem = file.problem;
    }
    area.leaves = std::move(bottom.leaves);
    area.problem = std::move(bottom.problem);
    return area;
}

/// Whether somebody holds the cipher that encrypts nothing; the kernel's own registration counts as one.
bool null_cipher_in_use(const std::string& proc) {
    const auto file = read_file(proc + "/crypto", 4 << 20);
    bool inside = false;
    for (std::string_view text = file ? std::string_view(file->text) : std::string_view{}; !text.empty();) {
        const auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        if (line.starts_with("name ")) inside = line.ends_with(": ecb(cipher_null)");
        if (inside && line.starts_with("refcnt ") && !line.ends_with(": 1")) return true;
    }
    return false;
}

}  // namespace

StorageFacts read_storage(const FileFacts& files, const Places& places) {
    StorageFacts facts;
    const auto walker = Walker::open(places);
    if (!walker) return facts;
    for (const auto& server : files.servers)
        for (const auto& file : server.files)
            if (file.use == NamedFile::Use::storage || file.use == NamedFile::Use::output) facts.paths.push_back(storage_of(*walker, places, file, server.server));
    facts.null_cipher = null_cipher_in_use(places.proc);
    const auto swaps = read_file(places.proc + "/swaps", 1 << 20);
    std::string_view text = swaps ? std::string_view(swaps->text) : std::string_view{};
    for (bool heading = true; !text.empty(); heading = false) {
        const auto end = std::min(text.find('\n'), text.size());
        if (!heading && end > 0) facts.swaps.push_back(swap_of(*walker, places, text.substr(0, end)));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return facts;
}

}  // namespace promwarden::host
