// The live configuration, judged: the texts of each server together, by its own version, and the verdicts of all servers merged.

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "families.hpp"

namespace promwarden {

namespace {

using Use = NamedFile::Use;

std::optional<prometheus::FileKind> kind_of(Use use) {
    using K = prometheus::FileKind;
    switch (use) {
        case Use::configuration:
        case Use::scrape_configs: return K::prometheus;
        case Use::rules: return K::rules;
        case Use::targets: return K::targets;
        case Use::web: return K::web;
        default: return std::nullopt;
    }
}

/// "2.42.0+ds" → 242.
std::optional<prometheus::Version> version_of(std::string_view text) {
    unsigned major = 0, minor = 0;
    const auto first = std::from_chars(text.data(), text.data() + text.size(), major);
    if (first.ec != std::errc{} || first.ptr == text.data() + text.size() || *first.ptr != '.') return std::nullopt;
    if (std::from_chars(first.ptr + 1, text.data() + text.size(), minor).ec != std::errc{} || major > 100 || minor > 99) return std::nullopt;
    return static_cast<prometheus::Version>(100 * major + minor);
}

std::vector<prometheus::Document> documents_of(const ServerFiles& server) {
    std::vector<prometheus::Document> documents;
    for (const auto& file : server.files)
        if (const auto kind = kind_of(file.use); kind && file.text != nullptr) documents.push_back(prometheus::read_document(file.path, *file.text, kind));
    return documents;
}

/// Files that hold configuration and whose text is not known: nothing can be said about what they say.
std::string unseen(const ServerFiles& server) {
    if (server.problem) return server.problem->text();
    for (const auto& file : server.files)
        if (kind_of(file.use) && file.text == nullptr && !file.may_be_missing) {
            if (file.problem) return file.problem->text();
            if (file.unread) return file.unread->text();
        }
    if (!server.left_out.empty()) return server.left_out.front();
    return {};
}

/// Where that server listens: its sockets, and what the policy says.
std::vector<std::uint16_t> own_ports(const Policy& policy, const Facts& facts, std::string_view name) {
    std::vector<std::uint16_t> ports;
    for (const auto& endpoint : policy.prometheus.listen) ports.push_back(endpoint.port);
    if (!facts.servers) return ports;
    for (const auto& server : *facts.servers)
        if (server.name == name)
            for (const auto& listener : server.listeners) ports.push_back(listener.endpoint.port);
    return ports;
}

std::vector<FileDecision> judge_server(const Policy& policy, const Facts& facts, const ServerFiles& server) {
    const auto documents = documents_of(server);
    LintOptions options;
    options.policy = &policy;
    options.version = version_of(server.version);
    if (!server.files.empty() && server.files.front().use == Use::configuration) options.main_file = server.files.front().path;
    if (auto ports = own_ports(policy, facts, server.server); !ports.empty()) options.own_ports = std::move(ports);
    auto decisions = judge(documents, options);
    if (const auto gap = unseen(server); !gap.empty())
        for (auto& [control, decision] : decisions) decision = merge_of(std::move(decision), Decision{Verdict::unknown, gap, {}});
    return decisions;
}

std::vector<FileDecision> judge_all(const Policy& policy, const Facts& facts) {
    if (!facts.files || facts.files->servers.empty()) {
        auto decisions = judge({});
        for (auto& [control, decision] : decisions) decision = facts.files ? not_applicable("no Prometheus configuration was found") : unknown(facts.files.error());
        return decisions;
    }
    std::vector<FileDecision> all;
    for (const auto& server : facts.files->servers) {
        auto decisions = judge_server(policy, facts, server);
        if (all.empty()) {
            all = std::move(decisions);
            continue;
        }
        for (std::size_t i = 0; i < all.size(); ++i) all[i].decision = merge_of(std::move(all[i].decision), std::move(decisions[i].decision));
    }
    return all;
}

}  // namespace

FileVerdicts::FileVerdicts(const Policy& policy, const Facts& facts) : decisions_(judge_all(policy, facts)) {}

const Decision& FileVerdicts::of(std::string_view control) const {
    static const Decision none = not_applicable("files say nothing about this");
    const auto found = std::ranges::find(decisions_, control, &FileDecision::control);
    return found == decisions_.end() ? none : found->decision;
}

}  // namespace promwarden
