// What can be seen of the policy's certificates without changing anything; another may be changing them meanwhile.

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "parts.hpp"
#include "promwarden/prometheus.hpp"

namespace promwarden::rotation {

namespace {

constexpr std::size_t largest_file = 1 << 20;

struct Files {
    std::string certificate, key;
};

/// Where another tool keeps what the service is configured to use.
Result<std::optional<Files>> watched_files(const Places& places, const CertificatePolicy& certificate) {
    if (certificate.install == CertificatePolicy::Install::nginx) {
        auto pair = pair_for(TRY(proxy_pairs(places)), certificate);
        return pair ? std::optional(Files{std::move(pair->certificate), std::move(pair->key)}) : std::nullopt;
    }
    const auto text = TRY(read_trusted_file(places.web_config, largest_file));
    const auto web = TRY(prometheus::read_web_tls(places.web_config, text.text));
    if (web.cert_file.empty()) return std::optional<Files>{};
    const auto base = places.web_config.substr(0, places.web_config.rfind('/') + 1);
    const auto absolute = [&](const std::string& path) { return path.starts_with('/') ? path : base + path; };
    return std::optional(Files{absolute(web.cert_file), absolute(web.key_file)});
}

/// Where the published pair lies: ours, or that of another tool.
Result<std::optional<Files>> files_of(const Places& places, const World& world, const CertificatePolicy& certificate) {
    if (certificate.issuer == "watch") return watched_files(places, certificate);
    const Consumer consumer(places, world, certificate);
    const auto current = TRY(consumer.current());
    if (!current) return std::optional<Files>{};
    const auto generation = fmt::format("{}/{}", consumer.directory(), *current);
    return std::optional(Files{generation + "/cert.pem", generation + "/key.pem"});
}

/// Read as files that others may have written; the key goes no further than its digest.
Result<std::string> key_digest(const std::string& path) {
    auto file = TRY(read_trusted_file(path, 64 << 10));
    const auto key = tls::Key::parse(file.text, path);
    tls::cleanse(file.text.data(), file.text.size());
    if (!key) return std::unexpected(key.error());
    return key->public_key();
}

void judge(ManagedCertificate& managed, const CertificatePolicy& policy, const tls::Chain& chain, const std::optional<tls::Chain>& root, Time now) {
    const auto& leaf = chain.leaf();
    const auto key = key_digest(managed.key_file);
    if (!key) managed.problems.push_back(key.error().text());
    else if (*key != leaf.public_key) managed.problems.push_back("the key does not fit the certificate");
    if (now >= leaf.not_after) managed.problems.push_back(fmt::format("it expired at {}", format_time(leaf.not_after)));
    else if (now < leaf.not_before) managed.problems.push_back(fmt::format("it is not valid before {}", format_time(leaf.not_before)));
    for (const auto& name : policy.names)
        if (!is_for(leaf, name)) managed.problems.push_back(fmt::format("it is not for '{}'", name));
    const auto moment = std::clamp(now, leaf.not_before, leaf.not_after - std::chrono::seconds(1));  // its time was judged above
    const bool own = policy.issuer == "local" && root;
    const auto held = tls::verify(chain, {policy.server ? tls::Use::server : tls::Use::client, {}, own ? &*root : nullptr, {moment}});
    if (!held) managed.problems.push_back(held.error().detail);
}

void look_live(ManagedCertificate& managed, const CertificatePolicy& certificate, const World& world) {
    if (!world.served) return;
    for (const auto& endpoint : managed.endpoints) {
        const auto shown = world.served(endpoint, certificate.names.front());
        managed.served = ManagedCertificate::Served{shown ? *shown : "", shown ? "" : shown.error().text(), to_text(endpoint)};
        if (!shown || !managed.leaf || *shown != managed.leaf->fingerprint) return;  // the one that differs is the one to speak of
    }
}

}  // namespace

ManagedCertificate published(const Policy& policy, const Places& places, const World& world, const CertificatePolicy& certificate, const std::optional<tls::Chain>& root) {
    ManagedCertificate managed;
    managed.name = certificate.name;
    managed.record = read_record_of(places, certificate.name);
    managed.endpoints = endpoints_of(policy, places, certificate);
    const auto files = files_of(places, world, certificate);
    if (!files) managed.problems.push_back(files.error().text());
    if (!files || !*files) return managed;
    managed.certificate_file = (*files)->certificate;
    managed.key_file = (*files)->key;
    const auto text = read_trusted_file(managed.certificate_file, largest_file);
    const auto chain = text ? tls::Chain::parse(text->text, managed.certificate_file) : std::unexpected(text.error());
    if (!chain) {
        managed.problems.push_back(chain.error().text());
        return managed;
    }
    managed.leaf = chain->leaf();
    judge(managed, certificate, *chain, root, world.now());
    return managed;
}

Result<CertificateFacts> observe(const Policy& policy, const Places& places, const World& world) {
    CertificateFacts facts;
    facts.machine = world.machine;
    facts.clock_synchronised = world.synchronised;
    std::optional<tls::Chain> root;
    const auto authority = TRY(Authority::look(places));
    if (authority) {
        facts.rollover = authority->step() == Step::none ? "" : to_text(authority->step());
        facts.removed = authority->removed();
        const auto bundle = authority->bundle();
        auto chain = bundle ? tls::Chain::parse(*bundle, "the authority") : std::unexpected(bundle.error());
        if (chain) root = *std::move(chain);
    }
    facts.probe_due = probe_due(policy, places, authority ? &authority->root() : nullptr, world.now());
    for (const auto& certificate : policy.tls.certificates) {
        auto managed = published(policy, places, world, certificate, root);
        look_live(managed, certificate, world);
        facts.certificates.push_back(std::move(managed));
    }
    return facts;
}

Time next_run(const CertificatePolicy& certificate, const ManagedCertificate& known, const Policy& policy, const CertificateFacts& facts, Time now) {
    if (certificate.issuer == "watch") return renewed_by_another(known) && known.problems.empty() ? std::max(known.record.next_try, now) : Time::max();
    const auto renewal = tls::next_renewal(certificate, policy.tls.maintenance, known.leaf, known.record, facts.machine, now, facts.clock_synchronised);
    return renewal.action == tls::Action::none ? Time::max() : std::max(renewal.when, now);
}

Time next_run(const Policy& policy, const CertificateFacts& facts, Time now) {
    auto when = Time::max();
    for (const auto& certificate : policy.tls.certificates) {
        const auto known = std::ranges::find(facts.certificates, certificate.name, &ManagedCertificate::name);
        if (known == facts.certificates.end()) continue;
        when = std::min(when, next_run(certificate, *known, policy, facts, now));
    }
    return when;
}

namespace {

Json to_json(const Certificate& leaf) {
    Json names = Json::array();
    for (const auto& name : leaf.names) names.push_back(name.text);
    return {{"names", std::move(names)},
            {"issuer", leaf.issuer},
            {"serial", leaf.serial},
            {"key", leaf.key},
            {"not_before", format_time(leaf.not_before)},
            {"not_after", format_time(leaf.not_after)},
            {"sha256", leaf.fingerprint}};
}

}  // namespace

Json to_json(const ManagedCertificate& managed, const Policy& policy, const CertificateFacts& facts, Time now) {
    Json json{{"name", managed.name}};
    const auto certificate = std::ranges::find(policy.tls.certificates, managed.name, &CertificatePolicy::name);
    if (certificate != policy.tls.certificates.end()) {
        constexpr std::array<std::string_view, 3> installs{"files", "prometheus-web", "nginx"};
        json["use"] = certificate->server ? "server" : "client";
        json["issued_by"] = certificate->issuer;
        json["install"] = installs[static_cast<std::size_t>(certificate->install)];
    }
    json["file"] = managed.certificate_file;
    json["certificate"] = managed.leaf ? to_json(*managed.leaf) : Json(nullptr);
    json["problems"] = managed.problems;
    json["served"] = !managed.served ? Json(nullptr) : Json(managed.leaf && managed.served->fingerprint == managed.leaf->fingerprint);
    if (managed.served && !managed.served->reason.empty()) json["served_reason"] = fmt::format("{}: {}", managed.served->where, managed.served->reason);
    if (certificate != policy.tls.certificates.end()) {
        const auto renewal = tls::next_renewal(*certificate, policy.tls.maintenance, managed.leaf, managed.record, facts.machine, now, facts.clock_synchronised);
        json["due"] = renewal.due == Time::max() ? Json(nullptr) : Json(format_time(renewal.due));
        json["next_try"] = renewal.when == Time::max() ? Json(nullptr) : Json(format_time(renewal.when));
        json["plan"] = renewal.reason;
    }
    json["failed_attempts"] = managed.record.attempts;
    json["last_error"] = managed.record.last_error;
    return json;
}

Json to_json(const Outcome& outcome) {
    constexpr std::array<std::string_view, 3> actions{"none", "renewed", "rekeyed"};
    return {{"name", outcome.name},
            {"action", actions[static_cast<std::size_t>(outcome.action)]},
            {"before", outcome.before ? to_json(*outcome.before) : Json(nullptr)},
            {"after", outcome.after ? to_json(*outcome.after) : Json(nullptr)},
            {"served", outcome.served ? Json(*outcome.served) : Json(nullptr)},
            {"note", outcome.note}};
}

}  // namespace promwarden::rotation
