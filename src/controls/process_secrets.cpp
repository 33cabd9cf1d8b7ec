// Control secrets.process: secrets in command lines, in units' environments, in those of monitoring containers. Names are told, values never.

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "servers.hpp"

namespace promwarden {

namespace {

std::string lower(std::string_view text) {
    std::string result(text);
    for (auto& c : result)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return result;
}

/// A name under which secrets are passed. One that ends in FILE, PATH, DIR … names where it is kept.
bool sounds_secret(std::string_view name) {
    const auto text = lower(name);
    constexpr std::string_view endings[] = {"file", "path", "dir", "url", "name", "id", "user", "username", "type", "ttl", "enabled", "length", "min", "max", "key_id"};
    constexpr std::string_view words[] = {"password", "passwd", "passphrase", "secret", "token", "api_key", "apikey", "api-key", "private_key", "access_key", "credential"};
    for (const auto ending : endings)
        if (text.ends_with(ending) && text.size() > ending.size() && std::string_view("_-.").contains(text[text.size() - ending.size() - 1])) return false;
    return std::ranges::any_of(words, [&](std::string_view word) { return text.contains(word); }) || text.ends_with("_pass") || text.ends_with("_pwd") || text == "pgpassword";
}

/// A value that is one: not empty, not a switch, not a reference to what is kept elsewhere.
bool is_value(std::string_view value) {
    constexpr std::string_view none[] = {"", "true", "false", "yes", "no", "on", "off", "0", "1", "none", "null", "<secret>", "changeme_in_file"};
    if (std::ranges::find(none, value) != std::end(none)) return false;
    return !value.starts_with("$") && !value.starts_with("/") && !value.starts_with("file:") && !value.starts_with("vault:") && !value.starts_with("%");
}

/// "https://user:password@host": whether there is a password in it.
bool has_password(std::string_view text) {
    for (auto scheme = text.find("://"); scheme != std::string_view::npos; scheme = text.find("://", scheme + 3)) {
        const auto rest = text.substr(scheme + 3, text.find_first_of("/?# \t'\"", scheme + 3) - scheme - 3);
        const auto at = rest.rfind('@'), colon = rest.find(':');
        if (at == std::string_view::npos || colon == std::string_view::npos || colon > at) continue;
        if (is_value(rest.substr(colon + 1, at - colon - 1))) return true;
    }
    return false;
}

/// A parameter of a URL's query that sounds like a secret; its name.
std::string secret_parameter(std::string_view text) {
    const auto question = text.contains("://") ? text.find('?') : std::string_view::npos;
    if (question == std::string_view::npos) return {};
    text.remove_prefix(question + 1);
    while (!text.empty()) {
        const auto one = text.substr(0, text.find('&'));
        text.remove_prefix(std::min(text.size(), one.size() + 1));
        const auto equals = one.find('=');
        if (equals != std::string_view::npos && sounds_secret(one.substr(0, equals)) && is_value(one.substr(equals + 1))) return std::string(one.substr(0, equals));
    }
    return {};
}

std::string printable(std::string_view name) {
    std::string text(name.substr(0, 80));
    for (auto& c : text)
        if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
    return text;
}

/// What is secret about a word of a command line, by name: "--web.token", "a password in the URL of --web.external-url"; "" for nothing. `value` is the next word.
std::string secret_in(std::string_view word, std::string_view value) {
    const auto equals = word.find('=');
    const auto name = word.substr(0, equals);
    const bool flag = name.starts_with('-');
    if (value.starts_with('-')) value = {};
    const auto given = equals == std::string_view::npos ? (flag ? value : word) : word.substr(equals + 1);
    const auto what = flag ? printable(name) : std::string("an argument");
    if (has_password(given)) return fmt::format("a password in the URL of {}", what);
    if (const auto parameter = secret_parameter(given); !parameter.empty()) return fmt::format("{} in the URL of {}", printable(parameter), what);
    if (flag && sounds_secret(name) && is_value(given)) return what;
    return {};
}

std::set<std::string> secrets_in(std::span<const std::string> words) {
    std::set<std::string> found;
    for (std::size_t i = 0; i < words.size(); ++i)
        if (auto what = secret_in(words[i], i + 1 < words.size() ? std::string_view(words[i + 1]) : std::string_view{}); !what.empty()) found.insert(std::move(what));
    return found;
}

std::set<std::string> secrets_of(std::span<const std::string> environment) {
    std::set<std::string> found;
    for (const auto& one : environment) {
        const auto equals = one.find('=');
        if (equals == std::string::npos) continue;
        const auto name = std::string_view(one).substr(0, equals), value = std::string_view(one).substr(equals + 1);
        if (has_password(value)) found.insert(fmt::format("a password in the URL of {}", printable(name)));
        else if (sounds_secret(name) && is_value(value)) found.insert(printable(name));
    }
    return found;
}

constexpr std::string_view into_file = "put it into a file that only the service reads, and give the file's name (a *_file key or flag); then change the secret: it was readable";

void judge_server(const Server& server, Gathered& gathered) {
    gathered.judged = true;
    const auto add = [&](std::string observed, std::optional<Location> place, Evidence evidence) {
        gathered.findings.push_back({server.name, "no secret in arguments or environment", std::move(observed), std::move(place), evidence, {false, std::string(into_file)}});
    };
    std::set<std::string> running;
    if (server.process && server.running) {
        running = secrets_in(server.running->words);
        for (const auto& what : running) add(fmt::format("{} is in its command line, which every local user can read (pid {})", what, server.process->pid), std::nullopt, Evidence::process);
    }
    if (!server.unit) return;
    if (server.configured)
        for (const auto& what : secrets_in(server.configured->words))
            if (!running.contains(what)) add(fmt::format("{} is in the unit's command line", what), place_of_setting(*server.unit, "ExecStart"), Evidence::config);
    for (const auto& what : secrets_of(server.unit->environment))
        add(fmt::format("{} is in Environment= of the unit, which everyone may ask systemd for", what), place_of_setting(*server.unit, "Environment"), Evidence::config);
}

void judge_container(const Container& container, Gathered& gathered) {
    gathered.judged = true;
    const auto subject = fmt::format("container {}", container.name);
    const auto add = [&](std::string observed, std::string path) {
        gathered.findings.push_back({subject, "no secret in arguments or environment", std::move(observed), Location{container.source, 0, 0, std::move(path)}, Evidence::config, {false, std::string(into_file)}});
    };
    for (const auto& what : secrets_in(container.arguments)) add(fmt::format("{} is in its command line", what), "Args");
    for (const auto& what : secrets_of(container.environment)) add(fmt::format("{} is in its environment, which whoever reaches the engine can read", what), "Config.Env");
}

}  // namespace

Decision decide_process_secrets(const Policy& policy, const Facts& facts) {
    if (!facts.servers) return unknown(facts.servers.error());
    Gathered gathered;
    for (const auto* server : judged_servers(facts)) judge_server(*server, gathered);
    if (facts.containers) {
        for (const auto& container : facts.containers->containers)
            if (is_monitoring(container)) judge_container(container, gathered);
        for (const auto& why : facts.containers->unread) gathered.undecided.push_back(why);
    }
    return std::move(gathered).decide("no secret is in a command line or an environment", no_server(policy));
}

}  // namespace promwarden
