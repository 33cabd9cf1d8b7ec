// Compose files and systemd units: how Prometheus is started, what is published of it, and secrets that everyone on the host can read.

#include <algorithm>

#include <fmt/format.h>

#include "families.hpp"
#include "promwarden/deployment.hpp"
#include "promwarden/unit.hpp"

namespace promwarden {

namespace {

using yaml::Node;

constexpr std::string_view published = "network.published-ports", secrets = "secrets.process", admin = "api.admin", lifecycle = "api.lifecycle", receivers = "api.receivers", cors = "api.cors", startable = "config.startable";
constexpr std::string_view all_controls[] = {published, admin, lifecycle, receivers, cors, secrets, startable};

struct Spot {
    std::uint32_t line = 0, column = 0;
    std::string path;
};

/// What was found about one file.
class Notes {
public:
    Notes(const std::string& file, const LintOptions& options) : file_(file), options_(options) {}

    void fail(std::string_view control, const Spot& spot, std::string expected, std::string observed, std::string remedy) {
        auto& decision = of(control);
        decision.findings.push_back({file_, std::move(expected), std::move(observed), Location{file_, spot.line, spot.column, spot.path}, Evidence::config, {false, fmt::format("line {}: {}", spot.line, remedy)}});
        decision.verdict = Verdict::fail;
        decision.reason = decision.findings.size() == 1 ? "1 place" : fmt::format("{} places", decision.findings.size());
    }
    void undecided(std::string_view control, const Spot& spot, std::string_view why) {
        auto& decision = of(control);
        if (decision.verdict == Verdict::fail) return;
        decision.verdict = Verdict::unknown;
        decision.reason = fmt::format("{}:{}: {}", file_, spot.line, why);
    }
    void touch(std::string_view control, std::string_view holds) {
        auto& decision = of(control);
        if (decision.verdict == Verdict::not_applicable) decision = {Verdict::pass, std::string(holds), {}};
    }

    std::vector<FileDecision> decisions(std::string_view nothing) {
        std::vector<FileDecision> all;
        for (const auto control : all_controls) {
            if (!options_.only.empty() && std::ranges::find(options_.only, control) == options_.only.end()) continue;
            auto& decision = of(control);
            if (decision.verdict == Verdict::not_applicable) decision.reason = nothing;
            all.push_back({control, std::move(decision)});
        }
        return all;
    }

private:
    Decision& of(std::string_view control) {
        const auto found = std::ranges::find(all_, control, &FileDecision::control);
        if (found != all_.end()) return found->decision;
        all_.push_back({control, {Verdict::not_applicable, {}, {}}});
        return all_.back().decision;
    }

    const std::string& file_;
    const LintOptions& options_;
    std::vector<FileDecision> all_;
};

// ---- a command line, wherever it is written -------------------------------------------------------------------------

struct Word {
    std::string text;
    Spot at;
};

bool filled_later(std::string_view text) { return text.find("${") != std::string_view::npos || text.find("{{") != std::string_view::npos || text.starts_with('$'); }

const Word& word_with(std::span<const Word> words, std::string_view flag) {
    const auto found = std::ranges::find_if(words, [&](const Word& word) { return word.text.find(flag) != std::string::npos; });
    return found == words.end() ? words.front() : *found;
}

void judge_arguments(Notes& notes, std::span<const Word> words, const LintOptions& options) {
    if (words.empty()) return;
    std::vector<prometheus::Argument> arguments;
    bool whole = true;
    for (const auto& word : words) {
        if (filled_later(word.text)) whole = false;
        else arguments.push_back({word.text, ""});
    }
    prometheus::Build build;
    build.version = options.version;
    const auto line = prometheus::read_command_line("prometheus", arguments, build, [](const std::string& path) -> Result<std::string> { return promwarden::fail(Code::denied, "read", path, "not given"); });
    const auto& allow = options.policy != nullptr ? options.policy->prometheus.allow : PrometheusPolicy::Allow();
    struct Rule {
        std::string_view flag, control;
        bool allowed;
        std::string_view why;
    };
    const Rule rules[] = {{"web.enable-admin-api", admin, allow.admin_api, "whoever can post may delete series and write snapshots"},
                          {"web.enable-lifecycle", lifecycle, allow.lifecycle, "whoever can post may stop or reload the server"},
                          {"web.enable-remote-write-receiver", receivers, allow.remote_write_receiver, "whoever reaches it may write any series"},
                          {"web.enable-otlp-receiver", receivers, allow.otlp_receiver, "whoever reaches it may write any series"}};
    for (const auto& rule : rules) {
        notes.touch(rule.control, "not switched on here");
        for (const auto& flag : line.flags)
            if (flag.name == rule.flag && flag.value != "false" && !rule.allowed)
                notes.fail(rule.control, word_with(words, rule.flag).at, fmt::format("no --{}", rule.flag), std::string(rule.why), fmt::format("remove --{}", rule.flag));
    }
    for (const auto& flag : line.flags)
        if (flag.name == "web.cors.origin" && (flag.value == ".*" || flag.value == "*"))
            notes.fail(cors, word_with(words, flag.name).at, "the origin of the proxy", "any web page may read the API through a browser", "name the origin, or remove the flag and put a proxy in front");
    notes.touch(startable, "Prometheus would take these arguments");
    for (const auto& problem : line.problems) {
        // The name of a flag in quotes says where it is written.
        const auto quote = problem.find('\'');
        const auto name = quote == std::string::npos ? std::string() : problem.substr(quote + 1, problem.find('\'', quote + 1) - quote - 1);
        if (!whole && problem.find("required") != std::string::npos) continue;
        notes.fail(startable, word_with(words, name.empty() ? "=" : name).at, "arguments that Prometheus takes", fmt::format("Prometheus does not start: {}", problem), "correct or remove the argument");
    }
}

bool sounds_secret(std::string_view name) {
    std::string low(name);
    for (auto& c : low)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
    if (low.ends_with("_file") || low.ends_with("_path") || low.find("__file") != std::string::npos) return false;
    constexpr std::string_view words[] = {"password", "passwd", "secret", "token", "api_key", "apikey", "access_key", "private_key", "credential"};
    return std::ranges::any_of(words, [&](std::string_view word) { return low.find(word) != std::string::npos; });
}

void judge_variable(Notes& notes, std::string_view name, std::string_view value, const Spot& spot) {
    if (!sounds_secret(name) || value.empty() || value.find('$') != std::string_view::npos || value.find("{{") != std::string_view::npos || value.starts_with('<') || value == "true" || value == "false" || value.starts_with("/run/secrets/"))
        return;
    notes.fail(secrets, spot, "a secret in a file", fmt::format("{} holds a secret in the environment, which everyone who can look at the process or this file can read", name), "pass it as a file: a docker secret, LoadCredential=, or the program's *_FILE variable");
}

// ---- compose --------------------------------------------------------------------------------------------------------

Spot spot_of(const Node& node, std::string path) { return {node.at.line, node.at.column, std::move(path)}; }

/// "${NAME:-default}" and "${NAME-default}" by their defaults; `whole` is false where there is none.
std::string with_defaults(std::string_view text, bool& whole) {
    std::string result;
    while (!text.empty()) {
        const auto dollar = text.find('$');
        result += text.substr(0, dollar);
        if (dollar == std::string_view::npos) break;
        text.remove_prefix(dollar + 1);
        if (text.starts_with('$')) {
            result += '$';
            text.remove_prefix(1);
            continue;
        }
        if (!text.starts_with('{')) {
            whole = false;
            text.remove_prefix(std::min(text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"), text.size()));
            continue;
        }
        const auto inside = text.substr(1, text.find('}') == std::string_view::npos ? text.size() - 1 : text.find('}') - 1);
        text.remove_prefix(std::min(inside.size() + 2, text.size()));
        const auto dash = inside.find('-');
        if (dash == std::string_view::npos) whole = false;
        else result += inside.substr(dash + 1);
    }
    return result;
}

bool is_loopback(std::string_view address) { return address.starts_with("127.") || address == "::1" || address == "[::1]" || address == "localhost"; }

bool names_port(std::string_view ports, std::string_view wanted) {
    const auto dash = ports.find('-');
    const auto number = [](std::string_view text) { return text.empty() || text.size() > 5 || !std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; }) ? -1 : std::stoi(std::string(text)); };
    const int first = number(ports.substr(0, dash)), last = dash == std::string_view::npos ? first : number(ports.substr(dash + 1)), port = number(wanted);
    return first >= 0 && first <= port && port <= last;
}

void judge_publication(Notes& notes, std::string_view address, std::string_view host, bool whole, const Spot& spot) {
    notes.touch(published, "what is published is published on loopback only");
    if (is_loopback(address)) return;
    if (!whole && address.empty() && host.empty()) return notes.undecided(published, spot, "what is published is filled in later");
    notes.fail(published, spot, "127.0.0.1, or no publication at all", address.empty() || address == "0.0.0.0" || address == "::" ? "published on every address, behind the back of host firewalls" : "published on an address that is not loopback",
               fmt::format("write \"127.0.0.1:{}:9090\", or remove it and let the proxy stand in the same network", host.empty() ? "9090" : host));
}

void judge_port(Notes& notes, const Node& node, const std::string& path, std::string_view port) {
    const auto spot = spot_of(node, path);
    bool whole = true;
    if (node.kind == Node::Kind::mapping) {
        const auto text = [&](std::string_view key) { const auto* value = node.find(key); return value == nullptr ? std::string() : with_defaults(value->scalar(), whole); };
        if (names_port(text("target"), port) && text("protocol") != "udp") judge_publication(notes, text("host_ip"), text("published"), whole, spot);
        return;
    }
    auto text = with_defaults(node.scalar(), whole);
    if (text.ends_with("/udp")) return;
    text = text.substr(0, text.find('/'));
    std::string address;
    if (text.starts_with('[')) {
        const auto end = text.find(']');
        address = text.substr(0, end == std::string::npos ? 0 : end + 1);
        text.erase(0, std::min(address.size() + 1, text.size()));
    } else if (std::ranges::count(text, ':') > 1) {
        address = text.substr(0, text.find(':'));
        text.erase(0, address.size() + 1);
        if (address.empty()) return notes.undecided(published, spot, "the address is filled in later");
    }
    const auto colon = text.rfind(':');
    const auto inner = colon == std::string::npos ? text : text.substr(colon + 1);
    const auto host = colon == std::string::npos ? std::string() : text.substr(0, colon);
    if (inner.empty() && !whole) return notes.undecided(published, spot, "the port is filled in later");
    if (names_port(inner, port)) judge_publication(notes, address, host, whole, spot);
}

bool is_prometheus(const Node& service) {
    const auto* image = service.find("image");
    if (image == nullptr) return false;
    auto name = image->scalar();
    name = name.substr(0, name.find('@'));
    const auto slash = name.rfind('/');
    name = slash == std::string_view::npos ? name : name.substr(slash + 1);
    return name.substr(0, name.find(':')) == "prometheus";
}

std::vector<Word> command_of(const Node& service, const std::string& path) {
    std::vector<Word> words;
    for (const std::string_view key : {"entrypoint", "command"}) {
        const auto* node = service.find(key);
        if (node == nullptr) continue;
        const auto where = fmt::format("{}.{}", path, key);
        if (node->kind == Node::Kind::sequence) {
            for (std::size_t i = 0; i < node->items.size(); ++i) words.push_back({std::string(node->items[i]->scalar()), spot_of(*node->items[i], fmt::format("{}[{}]", where, i))});
        } else if (const auto split = unit::split_words(node->scalar())) {
            for (const auto& each : *split) words.push_back({each, spot_of(*node, where)});
        }
    }
    std::erase_if(words, [](const Word& word) { return !word.text.starts_with('-') && (word.text.ends_with("prometheus") || word.text.empty()); });
    // A shell that starts it: what it makes of its words is its own.
    if (std::ranges::any_of(words, [](const Word& word) { return word.text.ends_with("sh") && !word.text.starts_with("--"); })) return {};
    return words;
}

void judge_service(Notes& notes, const Node& service, const std::string& path, const LintOptions& options) {
    if (const auto* environment = service.find("environment"); environment != nullptr) {
        notes.touch(secrets, "no secret in the environment");
        for (const auto& entry : environment->entries) judge_variable(notes, entry.key, entry.value->scalar(), {entry.at.line, entry.at.column, fmt::format("{}.environment.{}", path, entry.key)});
        for (std::size_t i = 0; i < environment->items.size(); ++i) {
            const auto text = environment->items[i]->scalar();
            if (const auto equals = text.find('='); equals != std::string_view::npos) judge_variable(notes, text.substr(0, equals), text.substr(equals + 1), spot_of(*environment->items[i], fmt::format("{}.environment[{}]", path, i)));
        }
    }
    if (!is_prometheus(service)) return;
    const auto words = command_of(service, path);
    judge_arguments(notes, words, options);
    std::string port = "9090";
    for (const auto& word : words)
        if (word.text.starts_with("--web.listen-address=") && word.text.rfind(':') != std::string::npos) port = word.text.substr(word.text.rfind(':') + 1);
    const auto* mode = service.find("network_mode");
    if (mode != nullptr && mode->scalar() == "host") return;  // "ports" means nothing then: where Prometheus listens counts
    notes.touch(published, "nothing is published");
    if (const auto* ports = service.find("ports"); ports != nullptr)
        for (std::size_t i = 0; i < ports->items.size(); ++i) judge_port(notes, *ports->items[i], fmt::format("{}.ports[{}]", path, i), port);
}

bool is_compose(const Node& root) {
    const auto* services = root.find("services");
    return services != nullptr && services->kind == Node::Kind::mapping && std::ranges::any_of(services->entries, [](const yaml::Entry& entry) {
               return entry.value->entry("image") != nullptr || entry.value->entry("build") != nullptr || entry.value->entry("extends") != nullptr;
           });
}

}  // namespace

std::optional<std::vector<FileDecision>> judge_compose(const std::string& path, std::string_view text, const LintOptions& options) {
    const auto tree = yaml::read(text);
    if (!tree || tree->documents.empty() || tree->documents.front()->kind != Node::Kind::mapping || !is_compose(*tree->documents.front())) return std::nullopt;
    Notes notes(path, options);
    const auto& services = *tree->documents.front()->find("services");
    const bool about = std::ranges::any_of(services.entries, [](const yaml::Entry& entry) { return is_prometheus(*entry.value); });
    if (about)
        for (const auto& entry : services.entries) judge_service(notes, *entry.value, fmt::format("services.{}", entry.key), options);
    return notes.decisions("no service here is a Prometheus");
}

std::optional<std::vector<FileDecision>> judge_unit(const std::string& path, std::string_view text, const LintOptions& options) {
    const auto assignments = unit::read_assignments(path, text);
    if (std::ranges::none_of(assignments, [](const unit::Assignment& each) { return each.section == "Service"; })) return std::nullopt;
    Notes notes(path, options);
    bool about = false;
    for (const auto& each : assignments) {
        const Spot spot{each.line, 1, fmt::format("{}.{}", each.section, each.key)};
        if (each.section != "Service" || each.key != "ExecStart") continue;
        const auto words = unit::split_words(each.value);
        if (!words || words->empty() || !words->front().ends_with("prometheus")) continue;
        about = true;
        std::vector<Word> arguments;
        for (std::size_t i = 1; i < words->size(); ++i) arguments.push_back({(*words)[i], spot});
        judge_arguments(notes, arguments, options);
    }
    for (const auto& each : assignments) {
        if (!about || each.section != "Service" || each.key != "Environment") continue;
        notes.touch(secrets, "no secret in the environment");
        if (const auto words = unit::split_words(each.value))
            for (const auto& word : *words)
                if (const auto equals = word.find('='); equals != std::string::npos) judge_variable(notes, std::string_view(word).substr(0, equals), std::string_view(word).substr(equals + 1), {each.line, 1, "Service.Environment"});
    }
    return notes.decisions("this unit starts no Prometheus");
}

}  // namespace promwarden
