/// Internal to the room: the way to a file, step by step, from a root that is never left.
#pragma once

#include <span>

#include "mounts.hpp"
#include "promwarden/host.hpp"

namespace promwarden::host {

/// Walks names as a process with that root would resolve them. Every component is opened without following links and judged on its descriptor; a link is followed
/// by walking its text. So nothing below the root leads out of it, and no name is resolved twice. Needs no openat2, which a sandboxed service does not have.
/// File systems that may hang their reader are named, not entered, unless the root itself is on one.
class Walker {
public:
    static Result<Walker> open(const Places& places);

    /// Fills steps and problem from the path. `as`: goes no further than that user could. Returns what was reached.
    Fd walk(NamedFile& file, const Identity* as = nullptr) const;
    /// The text of what was reached, a regular file of at most `limit` bytes.
    static Result<std::string> read(const Fd& reached, const NamedFile& file, std::size_t limit);
    /// Names that the glob stands for, as Go's filepath.Glob: sorted; at most 1,000, and then Code::limit, as after 2,000 directories or 200,000 entries in all.
    Result<std::vector<std::string>> expand(const std::string& pattern, const Identity* as = nullptr) const;

    [[nodiscard]] const Mounts& mounts() const { return mounts_; }
    /// Whether its root is another than that of the host.
    [[nodiscard]] bool moved() const { return moved_; }

private:
    struct Way;
    Result<std::vector<std::string>> list(const std::string& directory, const Identity* as) const;
    Result<> grow(std::vector<std::string>& paths, const std::string& part, const Identity* as) const;
    [[nodiscard]] std::optional<std::string> hanging(std::uint64_t mount) const;

    Fd root_;
    bool moved_ = false;
    std::uint64_t root_mount_ = 0;
    Mounts mounts_;
    mutable std::size_t listings_ = 0, entries_ = 0;  // so far: what a configuration can make us look at is bounded as a whole
};

bool has_wildcards(std::string_view path);
/// `path` below `directory` where it is not absolute.
std::string resolve(const std::string& directory, const std::string& path);
/// "/etc/prometheus" of "/etc/prometheus/prometheus.yml".
std::string parent_of(const std::string& path);

}  // namespace promwarden::host
