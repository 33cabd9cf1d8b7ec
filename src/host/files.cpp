// Every file that a server's unit and configuration name: walked to, described, and read where it is configuration.

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "promwarden/host.hpp"
#include "promwarden/prometheus.hpp"
#include "rotation.hpp"
#include "walk.hpp"

namespace promwarden::host {

namespace {

using Use = NamedFile::Use;

constexpr std::size_t most_files = 2000;             // of one server
constexpr std::size_t largest_text = 16 << 20;
constexpr std::size_t most_text = 64 << 20;          // of one server
// Of files that somebody but root can write: reading them must not keep the agent from its work.
constexpr std::size_t largest_foreign_text = 1 << 20;
constexpr std::size_t most_foreign_text = 4 << 20;
constexpr std::size_t largest_account_file = 16 << 20;
constexpr std::size_t largest_rotation = 256 << 10;

constexpr std::string_view default_config = "/etc/prometheus/prometheus.yml";
constexpr std::string_view default_account = "prometheus";

bool holds_configuration(Use use) { return use <= Use::rules || use == Use::targets || use == Use::web; }

Use use_of(const prometheus::Key& key) {
    if (key.value == prometheus::Value::output) return Use::output;
    if (key.name == "rule_files") return Use::rules;
    if (key.name == "scrape_config_files") return Use::scrape_configs;
    if (key.in == prometheus::Shape::file_sd) return Use::targets;
    if (key.name == "cert_file") return Use::certificate;
    if (key.name == "ca_file" || key.name == "client_ca_file") return Use::authority;
    if (key.name == "key_file" || key.name == "certificate_key_path" || key.name == "private_key_path" || key.name == "client_certificate_key_file") return Use::key;
    return Use::secret;
}

bool takes_globs(Use use) { return use == Use::rules || use == Use::scrape_configs || use == Use::targets; }

/// Where there is no unit, the arguments of the process are all there is. Only root could have written them where it runs as root.
bool by_process(const Server& server) { return !server.configured && server.configured.error().code == Code::missing && server.process && server.running; }

std::optional<std::string> flag_of(const Server& server, std::string_view name) {
    const auto& line = by_process(server) ? server.running : server.configured;
    if (!line) return std::nullopt;
    const auto& flags = line->flags;
    const auto found = std::find_if(flags.rbegin(), flags.rend(), [&](const Flag& flag) { return flag.name == name; });
    return found == flags.rend() ? std::nullopt : std::optional(found->value);
}

std::optional<std::string> live_flag(const Server& server, const std::string& name) {
    if (!server.live_flags) return std::nullopt;
    const auto found = server.live_flags->find(name);
    return found == server.live_flags->end() ? std::nullopt : std::optional(found->second);
}

/// What is known before a file is looked at.
struct Mention {
    Use use = Use::configuration;
    std::string written, path, pattern;
    TextPlace named;
    bool trusted = true;    // only root could have written the name
    bool may_be_missing = false;
};

/// The files of one server.
class Gathering {
public:
    Gathering(const Walker& walker, const AccountTable& accounts, ServerFiles& server) : walker_(walker), accounts_(accounts), server_(server) {}

    void add(const Mention& mention) {
        if (!seen_.emplace(mention.path, mention.use).second || full()) return;
        NamedFile file;
        file.use = mention.use;
        file.written = mention.written;
        file.path = mention.path;
        file.pattern = mention.pattern;
        file.named = mention.named;
        file.trusted = mention.trusted;
        file.may_be_missing = mention.may_be_missing || !mention.pattern.empty();
        const auto reached = walker_.walk(file, mention.trusted ? nullptr : &server_.identity);
        if (holds_configuration(file.use) && !file.problem) read(file, reached, mention.trusted);
        server_.files.push_back(std::move(file));
        if (server_.files.back().text != nullptr) follow(NamedFile(server_.files.back()), mention.trusted);
    }

    /// A name as it stands in a document or flag: made absolute, and expanded where it may be a glob.
    void add_named(Mention mention, const std::string& directory) {
        mention.path = resolve(directory, mention.written);
        if (!takes_globs(mention.use) || !has_wildcards(mention.path)) {
            mention.may_be_missing = takes_globs(mention.use);
            return add(mention);
        }
        if (full()) return;
        const auto paths = walker_.expand(mention.path, mention.trusted ? nullptr : &server_.identity);
        if (!paths) return refuse(mention, paths.error());
        mention.pattern = mention.written;
        for (const auto& path : *paths) {
            mention.path = path;
            add(mention);
        }
    }

private:
    bool full() {
        if (server_.files.size() < most_files) return false;
        if (server_.left_out.empty()) server_.left_out.push_back(fmt::format("only the first {} files that {} names were looked at", most_files, server_.server));
        return true;
    }

    [[nodiscard]] bool only_root_changes(const NamedFile& file) const { return who_can(can_write, file, accounts_).empty() && who_can(can_replace, file, accounts_).empty(); }

    void read(NamedFile& file, const Fd& reached, bool trusted) {
        // What the service itself could not read, it has no right to have shown in a report.
        if (!trusted && !can_read(server_.identity, file)) {
            file.unread = fail_errno("open", file.path, EACCES).error();
            return;
        }
        const bool ours = only_root_changes(file);
        auto& left = ours ? left_ : foreign_left_;
        auto text = Walker::read(reached, file, std::min(ours ? largest_text : largest_foreign_text, left));
        if (!text) {
            file.unread = std::move(text).error();
            return;
        }
        left -= std::min(left, text->size());
        file.text = std::make_shared<const std::string>(*std::move(text));
    }

    /// What a document names; a rule file and a list of targets name nothing.
    void follow(const NamedFile& file, bool trusted) {
        using Kind = prometheus::FileKind;
        if (file.use != Use::configuration && file.use != Use::scrape_configs && file.use != Use::web) return;
        const bool ours = trusted && only_root_changes(file);
        const auto document = prometheus::read_document(file.path, *file.text, file.use == Use::web ? Kind::web : Kind::prometheus);
        for (const auto& name : prometheus::named_files(document)) {
            const auto use = use_of(*name.key);
            if (use == Use::scrape_configs && file.use == Use::scrape_configs) continue;  // they do not nest
            add_named({use, name.text, {}, {}, {file.path, name.at.line, name.at.column, name.path}, ours, false}, parent_of(file.path));
        }
    }

    void refuse(const Mention& mention, const Error& error) {
        NamedFile file;
        file.use = mention.use;
        file.written = mention.written;
        file.path = mention.path;
        file.named = mention.named;
        file.problem = error;
        server_.files.push_back(std::move(file));
    }

    const Walker& walker_;
    const AccountTable& accounts_;
    ServerFiles& server_;
    std::set<std::pair<std::string, Use>> seen_;
    std::size_t left_ = most_text, foreign_left_ = most_foreign_text;
};

/// What the flags of a unit name; the policy's word goes first.
void gather_named_by_flags(Gathering& gathering, const Policy& policy, const Server& server) {
    const auto directory = server.directory.empty() ? "/" : server.directory;
    const auto unit = server.unit ? server.unit->fragment : std::string();
    const bool trusted = !by_process(server) || server.identity.uid == 0;
    const auto flag = [&](Use use, std::string_view name, const std::string& override_, std::string_view fallback) {
        const auto given = flag_of(server, name);
        const auto written = !override_.empty() ? override_ : given ? *given : std::string(fallback);
        if (written.empty()) return;
        const TextPlace place{override_.empty() ? unit : policy.path, 0, 0, fmt::format("--{}", name)};
        gathering.add_named({use, written, {}, {}, place, trusted || !override_.empty(), false}, directory);
    };
    const auto live = live_flag(server, "storage.tsdb.path");
    // Debian's build keeps its data elsewhere than the others do by default.
    const std::string fallback = live ? *live : server.package.starts_with("prometheus ") ? "/var/lib/prometheus/metrics2/" : "data/";
    flag(Use::configuration, "config.file", policy.prometheus.config, server.package.starts_with("prometheus ") ? default_config : "prometheus.yml");
    flag(Use::web, "web.config.file", policy.prometheus.web_config, "");
    if (const auto agent = flag_of(server, "storage.agent.path")) flag(Use::storage, "storage.agent.path", policy.prometheus.storage, "");
    else flag(Use::storage, "storage.tsdb.path", policy.prometheus.storage, fallback);
    for (const std::string_view name : {"web.console.templates", "web.console.libraries", "web.user-assets"}) flag(Use::served, name, "", "");
}

void gather_unit(Gathering& gathering, const Unit& unit) {
    const auto add = [&](const std::string& path, bool optional, const std::string& by) {
        if (!path.empty()) gathering.add({Use::unit, path, path, {}, {by, 0, 0, {}}, true, optional});
    };
    add(unit.fragment, false, {});
    for (const auto& drop_in : unit.drop_ins) add(drop_in, false, {});
    for (const auto& [path, optional] : unit.environment_files)
        if (!has_wildcards(path)) add(path, optional, unit.fragment);
}

ServerFiles gather_server(const Walker& walker, const AccountTable& accounts, const Policy& policy, const Server& server) {
    ServerFiles found;
    found.server = server.name;
    found.version = server.version;
    found.identity = server.identity;
    // As whom a unit that does not run would open its files: never as root because its user is not known.
    if (const auto& unit = server.unit; !server.process && unit && !unit->user.empty() && unit->user != "root" && server.identity.uid == 0) {
        const auto account = accounts.identity_of(std::string_view(unit->user));
        if (account) found.identity = *account;
        else found.problem = fail(Code::missing, "find user", unit->user, fmt::format("{} runs as it, and there is no such account", server.name)).error();
        if (!account) return found;
    }
    Gathering gathering(walker, accounts, found);
    if (!server.configured && !by_process(server) && policy.prometheus.config.empty()) found.problem = server.configured.error();
    else gather_named_by_flags(gathering, policy, server);
    if (server.unit) gather_unit(gathering, *server.unit);
    return found;
}

/// Where no server is known: the files that the policy names, or those of the usual place.
std::optional<ServerFiles> gather_usual(const Walker& walker, const AccountTable& accounts, const Policy& policy) {
    const auto& named = policy.prometheus;
    NamedFile config;
    config.path = named.config.empty() ? std::string(default_config) : named.config;
    (void)walker.walk(config);
    if (named.config.empty() && config.problem && config.problem->code == Code::missing) return std::nullopt;
    ServerFiles found;
    found.server = named.unit;
    found.identity = accounts.identity_of(default_account).value_or(Identity{static_cast<uid_t>(-3), static_cast<gid_t>(-3), {}});
    Gathering gathering(walker, accounts, found);
    const auto add = [&](Use use, const std::string& path, std::string_view flag) {
        if (!path.empty()) gathering.add_named({use, path, {}, {}, {policy.path, 0, 0, std::string(flag)}, true, false}, "/");
    };
    add(Use::configuration, config.path, "prometheus.config");
    add(Use::web, named.web_config, "prometheus.web_config");
    add(Use::storage, named.storage, "prometheus.storage");
    return found;
}

/// The root in which a unit's service resolves names, where it is not the one of everybody.
Result<Walker> walker_of(const Server& server, const Places& places) {
    const auto setting = [&](const char* name) {
        if (!server.unit) return std::string();
        const auto found = server.unit->settings.find(name);
        return found == server.unit->settings.end() ? std::string() : found->second;
    };
    if (const auto image = setting("RootImage"); !image.empty()) return fail(Code::unsupported, "look into", image, "the unit's root is an image of its own");
    const auto directory = setting("RootDirectory");
    if (!directory.empty() && directory != "/" && !places.root.empty()) return fail(Code::unsupported, "look into", directory, "a root within a mounted image");
    auto inside = places;
    if (!directory.empty() && directory != "/") inside.root = directory;
    return Walker::open(inside);
}

AccountTable read_accounts(const Walker& walker) {
    const auto text = [&](const char* path) -> std::string {
        NamedFile file;
        file.path = path;
        const auto reached = walker.walk(file);
        return file.problem ? "" : Walker::read(reached, file, largest_account_file).value_or("");
    };
    return parse_accounts(text("/etc/passwd"), text("/etc/group"));
}

std::vector<LogRotation> read_rotations(const Walker& walker) {
    std::vector<LogRotation> all;
    std::vector<std::string> paths{"/etc/logrotate.conf"};
    if (const auto more = walker.expand("/etc/logrotate.d/*")) paths.insert(paths.end(), more->begin(), more->end());
    for (const auto& path : paths) {
        NamedFile file;
        file.path = path;
        const auto reached = walker.walk(file);
        if (file.problem) continue;
        if (const auto text = Walker::read(reached, file, largest_rotation)) std::ranges::move(parse_rotations(path, *text), std::back_inserter(all));
    }
    return all;
}

std::vector<RuledFile> read_ruled(const Walker& walker, const Policy& policy) {
    std::vector<RuledFile> all;
    for (std::size_t i = 0; i < policy.files.size(); ++i) {
        const auto& rule = policy.files[i];
        NamedFile pattern;
        pattern.written = pattern.path = rule.path;
        pattern.named = {rule.where.file, rule.where.line, rule.where.column, "path"};
        pattern.trusted = true;
        auto paths = has_wildcards(rule.path) ? walker.expand(rule.path) : Result<std::vector<std::string>>({rule.path});
        if (!paths) {
            pattern.problem = paths.error();
            all.push_back({i, std::move(pattern)});
            continue;
        }
        for (auto& path : *paths) {
            auto file = pattern;
            file.path = std::move(path);
            if (has_wildcards(rule.path)) file.pattern = rule.path;
            (void)walker.walk(file);
            all.push_back({i, std::move(file)});
        }
    }
    return all;
}

}  // namespace

Result<FileFacts> read_files(const Policy& policy, std::span<const Server> servers, const Places& places) {
    const auto walker = TRY(Walker::open(places));
    FileFacts facts;
    facts.accounts = read_accounts(walker);
    for (const auto& server : servers) {
        if (server.kind != Server::Kind::unit) continue;  // a container's files are the worker's to read; a stranger's names are nobody's
        if (!server.configured && server.configured.error().code == Code::missing && !server.process) continue;  // there is no such unit
        const auto own = walker_of(server, places);
        if (!own) {
            facts.servers.push_back({.server = server.name, .version = server.version, .identity = server.identity, .files = {}, .left_out = {}, .problem = own.error()});
            continue;
        }
        facts.servers.push_back(gather_server(*own, facts.accounts, policy, server));
        if (own->moved())  // its names are not the host's
            for (auto& file : facts.servers.back().files) file.trusted = false;
    }
    if (facts.servers.empty())
        if (auto usual = gather_usual(walker, facts.accounts, policy)) facts.servers.push_back(*std::move(usual));
    facts.ruled = read_ruled(walker, policy);
    facts.rotations = read_rotations(walker);
    return facts;
}

}  // namespace promwarden::host
