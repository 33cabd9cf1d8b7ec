// A command line of Prometheus as a unit or a Compose file has it, its environment, and what is published of its container.

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "deployment.hpp"
#include "servers.hpp"

namespace promwarden::deployment {

namespace {

constexpr std::string_view all_controls[] = {listening, published, companions, admin,   lifecycle, receivers,
                                             cors,      limits,    secrets,    sandbox, startable};

/// Where a flag is written: its own word, else the command.
const Spot& spot_of(const CommandText& command, std::string_view flag) {
    static const Spot nowhere;
    if (command.words.empty()) return nowhere;
    const auto found = std::ranges::find_if(command.words, [&](const Word& word) { return word.text.find(flag) != std::string::npos; });
    return found == command.words.end() ? command.words.front().at : found->at;
}

struct Switch {
    std::string_view flag, feature, control;
    bool allowed;
    std::string_view why;
};

void judge_switches(Notes& notes, const CommandText& command, const CommandLine& line) {
    const auto* policy = notes.options().policy;
    const auto& allow = policy != nullptr ? policy->prometheus.allow : PrometheusPolicy::Allow();
    const Switch switches[] = {
        {"web.enable-admin-api", {}, admin, allow.admin_api, "whoever can post may delete series and write snapshots"},
        {"web.enable-lifecycle", {}, lifecycle, allow.lifecycle, "whoever can post may stop or reload the server"},
        {"web.enable-remote-write-receiver", "remote-write-receiver", receivers, allow.remote_write_receiver,
         "whoever reaches it may write any series"},
        {"web.enable-otlp-receiver", "otlp-write-receiver", receivers, allow.otlp_receiver, "whoever reaches it may write any series"}};
    for (const auto& one : switches) {
        notes.touch(one.control, "not switched on here");
        if (one.allowed) continue;
        for (const auto& flag : line.flags)
            if (flag.name == one.flag && flag.value != "false")
                notes.fail(one.control, spot_of(command, one.flag), fmt::format("no --{}", one.flag), std::string(one.why),
                           fmt::format("remove --{}", one.flag));
        if (!one.feature.empty() && prometheus::has_feature(line, one.feature))
            notes.fail(one.control, spot_of(command, one.feature), fmt::format("no feature {}", one.feature), std::string(one.why),
                       fmt::format("take {} out of --enable-feature", one.feature));
    }
}

void judge_values(Notes& notes, const CommandText& command, const CommandLine& line) {
    for (const auto& flag : line.flags) {
        const auto& spot = spot_of(command, flag.name);
        if (flag.name == "web.cors.origin" && lets_strangers_in(flag.value) != false) {
            notes.fail(cors, spot, "the origin of the proxy", "any web page may read the API through a browser",
                       "name the origin: --web.cors.origin='https://prometheus\\.example\\.org'");
        } else if (flag.name == "web.cors.origin") {
            notes.touch(cors, "the origins that may read the API are named");
        } else if (const auto loose = looser_than_default(flag, {notes.options().version, {}})) {
            notes.fail(limits, spot, fmt::format("--{} at most {}, the default", flag.name, loose->most),
                       loose->none ? "no limit at all" : "a looser limit: one query may take the server down",
                       fmt::format("write --{}={}, or leave it out", flag.name, loose->most));
        }
    }
}

void judge_listening(Notes& notes, const CommandText& command, const CommandLine& line) {
    if (!command.on_host) return;
    static const Policy anybody;
    const auto& policy = notes.options().policy != nullptr ? *notes.options().policy : anybody;
    for (const auto& flag : line.flags) {
        if (flag.name != "web.listen-address") continue;
        const auto& spot = spot_of(command, flag.value.empty() ? flag.name : flag.value);
        const auto allowed = listens_as_allowed(policy, flag.value);
        if (!allowed)
            notes.undecided(listening, spot, "a name that only its resolution places");
        else if (*allowed)
            notes.touch(listening, "it listens where the policy says, or on loopback only");
        else
            notes.fail(listening, spot, listening_expected(policy),
                       fmt::format("--web.listen-address={}, which others than this host's users reach", flag.value),
                       fmt::format("write --web.listen-address=127.0.0.1:{} and put a proxy in front",
                                   flag.value.substr(std::min(flag.value.size(), flag.value.rfind(':') + 1))));
    }
}

void judge_start(Notes& notes, const CommandText& command, const CommandLine& line) {
    notes.touch(startable, "Prometheus would take these arguments");
    for (const auto& problem : line.problems) {
        // The name of a flag in quotes says where it is written.
        const auto quote = problem.find('\'');
        const auto name = quote == std::string::npos ? std::string() : problem.substr(quote + 1, problem.find('\'', quote + 1) - quote - 1);
        if (!command.whole && (problem.find("required") != std::string::npos || problem.find("agent mode") != std::string::npos ||
                               problem.find("expected argument") != std::string::npos))
            continue;
        notes.fail(startable, spot_of(command, name.empty() ? "=" : name), "arguments that Prometheus takes",
                   fmt::format("Prometheus does not start: {}", problem), "correct or remove the argument");
    }
}

}  // namespace

// ---- notes ----------------------------------------------------------------------------------------------------------

Notes::Bin& Notes::of(std::string_view control) {
    const auto found = std::ranges::find(all_, control, &Bin::control);
    if (found != all_.end()) return *found;
    all_.push_back({control, {}, {}, {}});
    return all_.back();
}

void Notes::fail(std::string_view control, const Spot& spot, std::string expected, std::string observed, std::string_view remedy) {
    const auto& file = spot.file.empty() ? file_ : spot.file;
    of(control).findings.push_back({file,
                                    std::move(expected),
                                    std::move(observed),
                                    Location{file, spot.line, spot.column, spot.path},
                                    Evidence::config,
                                    {false, fmt::format("line {}: {}", spot.line, remedy)}});
}

void Notes::undecided(std::string_view control, const Spot& spot, std::string_view why) {
    of(control).undecided.push_back(fmt::format("{}:{}: {}: {}", spot.file.empty() ? file_ : spot.file, spot.line, spot.path, why));
}

void Notes::touch(std::string_view control, std::string_view holds) {
    if (auto& bin = of(control); bin.holds.empty()) bin.holds = holds;
}

std::vector<FileDecision> Notes::decisions(std::string_view nothing) {
    std::vector<FileDecision> all;
    for (const auto control : all_controls) {
        if (!options_.only.empty() && std::ranges::find(options_.only, control) == options_.only.end()) continue;
        auto& bin = of(control);
        Decision decision = not_applicable(std::string(nothing));
        if (!bin.findings.empty())
            decision = {Verdict::fail, bin.findings.size() == 1 ? "1 place" : fmt::format("{} places", bin.findings.size()),
                        std::move(bin.findings)};
        else if (!bin.undecided.empty())
            decision = {Verdict::unknown,
                        bin.undecided.size() == 1 ? bin.undecided.front()
                                                  : fmt::format("{} (and {} more)", bin.undecided.front(), bin.undecided.size() - 1),
                        {}};
        else if (!bin.holds.empty())
            decision = {Verdict::pass, bin.holds, {}};
        all.push_back({control, std::move(decision)});
    }
    return all;
}

// ---- command lines --------------------------------------------------------------------------------------------------

void judge_command(Notes& notes, const CommandText& command) {
    std::vector<prometheus::Argument> arguments;
    for (const auto& word : command.words)
        if (!command.script || word.text.starts_with("--")) arguments.push_back({word.text, ""});
    const prometheus::Build build{notes.options().version, {}};
    const auto line = prometheus::read_command_line("prometheus", arguments, build, [](const std::string& path) -> Result<std::string> {
        return promwarden::fail(Code::denied, "read", path, "not given");
    });
    judge_switches(notes, command, line);
    judge_values(notes, command, line);
    judge_listening(notes, command, line);
    if (!command.script) judge_start(notes, command, line);
}

// ---- the environment ------------------------------------------------------------------------------------------------

namespace {

bool names_secret(std::string_view name) {
    std::string low(name);
    for (auto& c : low)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
    if (low.ends_with("_file") || low.ends_with("_path") || low.ends_with("_dir") || low.ends_with("_name") || low.ends_with("_url") ||
        low.ends_with("_ttl") || low.ends_with("_lifetime") || low.ends_with("_timeout") || low.ends_with("_expiry") ||
        low.find("__file") != std::string::npos)
        return false;
    constexpr std::string_view words[] = {"password", "passwd",     "secret",      "token",     "api_key",
                                          "apikey",   "access_key", "private_key", "credential"};
    return std::ranges::any_of(words, [&](std::string_view word) { return low.find(word) != std::string::npos; });
}

/// A setting about secrets is none: "true", "3600", "24h", a path.
bool harmless(std::string_view value) {
    if (value.empty() || value == "true" || value == "false" || value.starts_with('<') || value.starts_with('/')) return true;
    if (value.find('$') != std::string_view::npos || prometheus::has_template_marks(value) ||
        value.find(prometheus::filled_later) != std::string_view::npos)
        return true;
    return prometheus::parse_flag_duration(value).has_value();
}

}  // namespace

void judge_variable(Notes& notes, std::string_view name, std::string_view value, const Spot& spot) {
    if (!names_secret(name) || harmless(value)) return;
    notes.fail(secrets, spot, "a secret in a file",
               fmt::format("{} holds a secret in the environment, which everyone who can look at the process or this file can read", name),
               "pass it as a file: a docker secret, LoadCredential=, or the program's *_FILE variable");
}

// ---- publications ---------------------------------------------------------------------------------------------------

bool is_prometheus_image(std::string_view image) {
    image = image.substr(0, image.find('@'));
    const auto slash = image.rfind('/');
    image = slash == std::string_view::npos ? image : image.substr(slash + 1);
    return image.substr(0, image.find(':')) == "prometheus";
}

bool stays_on_loopback(std::string_view address) {
    return address.starts_with("127.") || address == "::1" || address == "[::1]" || address == "localhost";
}

bool names_port(std::string_view ports, std::string_view wanted) {
    const auto number = [](std::string_view text) {
        int value = -1;
        const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
        return read.ec == std::errc() && read.ptr == text.data() + text.size() && value <= 65535 ? value : -1;
    };
    const auto dash = ports.find('-');
    const int first = number(ports.substr(0, dash)), last = dash == std::string_view::npos ? first : number(ports.substr(dash + 1)),
              port = number(wanted);
    return first >= 0 && first <= port && port <= last;
}

std::optional<PublishedPort> read_publication(std::string_view text) {
    PublishedPort publication;
    const auto slash = text.rfind('/');
    publication.udp = slash != std::string_view::npos && text.substr(slash) == "/udp";
    text = text.substr(0, slash);
    const auto last = text.rfind(':');
    if (last == std::string_view::npos || text.ends_with(']')) {
        publication.container = text;
        return publication;
    }
    publication.container = text.substr(last + 1);
    text = text.substr(0, last);
    if (text.starts_with('[')) {
        const auto end = text.find(']');
        if (end == std::string_view::npos) return std::nullopt;
        publication.address = text.substr(0, end + 1);
        publication.host = text.substr(std::min(end + 2, text.size()));
    } else if (const auto colon = text.rfind(':'); colon != std::string_view::npos) {
        publication.address = text.substr(0, colon);  // an IPv6 address without brackets is one, too
        publication.host = text.substr(colon + 1);
        if (publication.address.empty()) publication.whole = false;
    } else {
        publication.host = text;
    }
    return publication;
}

void judge_publication(Notes& notes, const PublishedPort& publication, const Spot& spot, std::string_view port) {
    if (publication.udp) return;
    if (!publication.whole && publication.container.find_first_not_of("0123456789-") != std::string::npos)
        return notes.undecided(published, spot, "the port is filled in later");
    if (!publication.whole && publication.container.empty()) return notes.undecided(published, spot, "the port is filled in later");
    if (!names_port(publication.container, port)) return;
    notes.touch(published, "what is published is published on loopback only");
    const auto& address = publication.address;
    if (stays_on_loopback(address)) return;
    if (!publication.whole && address.empty()) return notes.undecided(published, spot, "the address or the port is filled in later");
    const bool everywhere = address.empty() || address == "0.0.0.0" || address == "::" || address == "[::]";
    const auto host = publication.host.empty() ? publication.container : publication.host;
    notes.fail(
        published, spot, "127.0.0.1, or no publication at all",
        everywhere ? "published on every address, behind the back of host firewalls" : "published on an address that is not loopback",
        fmt::format("write \"127.0.0.1:{}:{}\", or remove it and let the proxy stand in the same network", host, publication.container));
}

void judge_publication(Notes& notes, std::string_view text, bool whole, const Spot& spot, std::string_view port) {
    auto publication = read_publication(text);
    if (!publication) return;
    publication->whole = publication->whole && whole;
    judge_publication(notes, *publication, spot, port);
}

}  // namespace promwarden::deployment
