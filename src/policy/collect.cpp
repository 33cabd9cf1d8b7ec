// Reads the texts of a policy from disk, by paths that only root can change.

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include <fmt/format.h>

#include "build.hpp"

namespace promwarden {

namespace policy {

std::optional<std::string> list_path(std::string_view text, const std::string& named_in) {
    if (!text.starts_with('@')) return std::nullopt;
    text.remove_prefix(1);
    if (text.starts_with('/')) return std::string(text);
    const auto slash = named_in.rfind('/');
    return slash == std::string::npos ? std::string(text) : fmt::format("{}/{}", named_in.substr(0, slash), text);
}

namespace {

constexpr std::size_t longest_policy = 4 << 20;
constexpr std::size_t longest_list = 64 << 20;
constexpr std::size_t most_drop_ins = 64;
constexpr std::size_t most_lists = 32;
constexpr std::string_view drop_in_directory = "policy.d";

std::string why(const Error& error) {
    const auto reason = error.detail.empty() ? std::generic_category().message(error.number) : error.detail;
    return fmt::format("{}: {}", error.code == Code::untrusted ? "not trusted" : "cannot be read", reason);
}

/// A file that changed within a tick of the clock may change again without its times showing it: such a stamp must equal no later one.
FileStamp settled(FileStamp stamp) {
    const auto now = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch());
    constexpr std::chrono::milliseconds tick{20};
    if (std::chrono::nanoseconds(stamp.changed) + tick > now) stamp.changed = 0;
    return stamp;
}

class Collector {
public:
    explicit Collector(const Sources* previous) : previous_(previous) {}

    std::expected<Sources, Diagnostics> collect(const std::string& path) {
        add(SourceFile::Kind::policy, path, longest_policy, {});
        add_drop_ins(path);
        const auto policies = static_cast<std::uint32_t>(sources_.files.size());
        for (std::uint32_t file = 0; file < policies; ++file) follow(file);
        if (!notes_.empty()) return std::unexpected(notes_.take());
        return std::move(sources_);
    }

private:
    /// `named` is where a policy names the file; without, the file itself is what an error is about.
    void add(SourceFile::Kind kind, const std::string& path, std::size_t limit, std::optional<Place> named) {
        SourceFile source{kind, path, {}, std::make_shared<const std::string>()};
        auto read = read_source(source, limit);
        sources_.files.push_back(std::move(source));
        if (read) return;
        if (named) notes_.add(*named, fmt::format("the list {} is {}", path, why(read.error())));
        else notes_.add({static_cast<std::uint32_t>(sources_.files.size() - 1), 0, 0}, why(read.error()));
    }

    Result<> read_source(SourceFile& source, std::size_t limit) const {
        const auto stamp = TRY(trusted_stamp(source.path));
        if (const auto* known = find_previous(source, stamp)) {
            source = *known;
            return {};
        }
        auto file = TRY(read_trusted_file(source.path, limit));
        source.stamp = settled(file.stamp);
        source.text = std::make_shared<const std::string>(std::move(file.text));
        return {};
    }

    [[nodiscard]] const SourceFile* find_previous(const SourceFile& source, const FileStamp& stamp) const {
        if (previous_ == nullptr) return nullptr;
        const auto same = [&](const SourceFile& file) { return file.kind == source.kind && file.path == source.path && file.stamp == stamp; };
        const auto known = std::ranges::find_if(previous_->files, same);
        return known == previous_->files.end() ? nullptr : &*known;
    }

    void add_drop_ins(const std::string& path) {
        const auto directory = path.substr(0, path.rfind('/') + 1) + std::string(drop_in_directory);
        const auto names = list_trusted_directory(directory, ".toml");
        if (!names) return notes_.add({0, 0, 0}, fmt::format("the directory {} is {}", directory, why(names.error())));
        if (names->size() > most_drop_ins)
            return notes_.add({0, 0, 0}, fmt::format("the directory {} has {} files, at most {} are read", directory, names->size(), most_drop_ins));
        for (const auto& name : *names) add(SourceFile::Kind::policy, fmt::format("{}/{}", directory, name), longest_policy, {});
    }

    /// Reads the lists that a policy file names and looks at its issuers' programs. What is wrong with the file itself is for `parse` to say.
    void follow(std::uint32_t file) {
        const auto tree = read_toml(*sources_.files[file].text, file);
        if (!tree) return;
        const auto* firewall = tree->find("firewall");
        if (const auto* groups = firewall == nullptr ? nullptr : firewall->value.find("sources"))
            for (const auto& group : groups->value.entries) {
                follow_list(group.value);
                for (const auto& item : group.value.items) follow_list(item);
            }
        const auto* tls = tree->find("tls");
        if (const auto* issuers = tls == nullptr ? nullptr : tls->value.find("issuer"))
            for (const auto& issuer : issuers->value.items)
                if (const auto* command = issuer.find("command"); command != nullptr && !command->value.items.empty()) check_program(command->value.items.front());
    }

    void follow_list(const Value& value) {
        const auto path = list_path(value.text, sources_.files[value.at.file].path);
        if (!path || !lists_.insert(*path).second) return;
        if (lists_.size() > most_lists) return notes_.add(value.at, fmt::format("more than {} lists", most_lists));
        add(SourceFile::Kind::list, *path, longest_list, value.at);
    }

    /// An issuer's program signs for us: nobody but root may be able to replace it.
    void check_program(const Value& program) {
        if (!fits(Type::path, program.text)) return;
        if (const auto stamp = trusted_stamp(program.text); !stamp) notes_.add(program.at, fmt::format("the issuer's program is {}", why(stamp.error())));
    }

    const Sources* previous_;
    Sources sources_;
    Notes notes_{sources_};
    std::set<std::string> lists_;
};

}  // namespace
}  // namespace policy

bool Sources::same_text(const Sources& other) const {
    return std::ranges::equal(files, other.files, [](const SourceFile& left, const SourceFile& right) {
        return left.kind == right.kind && left.path == right.path && (left.text == right.text || (left.text && right.text && *left.text == *right.text));
    });
}

std::expected<Sources, Diagnostics> collect(const std::string& path, const Sources* previous) {
    // Absolute from here on, so that what is stored or shown means the same files from any directory.
    std::error_code error;
    auto absolute = std::filesystem::absolute(path, error);
    return policy::Collector(previous).collect(error ? path : absolute.string());
}

}  // namespace promwarden
