// A change of the local authority, and what hangs on it: every leaf, the bundles, the probe's own certificate, sessions of clients that are believed no more.

#include <algorithm>

#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>

#include "parts.hpp"

namespace promwarden::rotation {

namespace {

using namespace std::chrono_literals;

constexpr auto probe_life = 30 * 24h;

constexpr auto starting_time = 60s;

/// A server that was restarted reads its data first.
Result<> wait_for(const World& world, const std::vector<Endpoint>& endpoints, const CertificatePolicy& policy) {
    if (!world.served || endpoints.empty()) return {};
    const auto give_up = std::chrono::steady_clock::now() + starting_time;
    while (!answers(world, endpoints, policy)) {
        if (std::chrono::steady_clock::now() > give_up)
            return fail(Code::failed, "see", to_text(endpoints.front()), "it does not answer since it was restarted");
        ::poll(nullptr, 0, 100);
    }
    return {};
}

std::string probe_file(const Places& places) { return places.probe + "/client.pem"; }

/// The certificate in a file that holds its key, too.
std::optional<tls::Chain> probe_chain(const std::string& path) {
    auto file = read_trusted_file(path, 1 << 20);
    if (!file) return std::nullopt;
    const auto from = file->text.find("-----BEGIN CERTIFICATE-----"), until = file->text.rfind("-----END CERTIFICATE-----");
    const bool there = from != std::string::npos && until != std::string::npos && from < until;
    auto chain = there ? tls::Chain::parse(std::string_view(file->text).substr(from, until + 25 - from), path) : std::unexpected(Error{});
    tls::cleanse(file->text.data(), file->text.size());
    return chain ? std::optional(*std::move(chain)) : std::nullopt;
}

}  // namespace

// ---- the probe ------------------------------------------------------------------------------------------------------

bool probe_due(const Policy& policy, const Places& places, const tls::Chain* root, Time now) {
    const bool local = std::ranges::any_of(policy.tls.certificates, [](const CertificatePolicy& one) { return one.issuer == "local"; });
    struct stat status{};
    if (!local || ::lstat(places.probe.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) return false;
    const auto chain = root == nullptr ? std::nullopt : probe_chain(probe_file(places));
    return !chain || chain->leaf().not_after - now <= probe_life / 3 || !tls::verify(*chain, {tls::Use::client, {}, root, {now}});
}

/// With its key in one file: the probe reads both at once.
Result<> Rotator::renew_probe() {
    const auto now = world_.now();
    const auto known = TRY(Authority::look(places_));
    if (!probe_due(policy_, places_, known ? &known->root() : nullptr, now)) return {};
    const auto authority = TRY(Authority::open(places_, policy_.tls, world_.host, now));
    CertificatePolicy own;
    own.name = "probe";
    own.server = false;
    own.names = {std::string(tls::probe_name)};
    const auto key = TRY(tls::Key::generate(tls::Key::Kind::ecdsa_p256));
    const auto chain = TRY(authority.sign(key, tls::subject_of(own), probe_life, now));
    TRY(tls::verify(chain, {tls::Use::client, own.names, &authority.root(), tls::moments_of(chain.leaf(), now)}));
    const auto certificates = chain.pem();
    auto both = TRY(key.pem());
    both.insert(both.begin(), certificates.begin(), certificates.end());
    return tls::publish_through(places_.probe, probe_file(places_), tls::view(both), 0640);
}

// ---- the change -----------------------------------------------------------------------------------------------------

/// Every leaf of ours from the authority that signs now, seen where it is served. True when none is left.
Result<bool> Rotator::reissue_all() {
    const auto authority = TRY(Authority::open(places_, policy_.tls, world_.host, world_.now()));
    for (const auto& policy : policy_.tls.certificates) {
        if (policy.issuer != "local") continue;
        const Consumer consumer(places_, world_, policy);
        const auto chain = chain_of(TRY(consumer.open_store()), TRY(consumer.current()));
        const auto use = policy.server ? tls::Use::server : tls::Use::client;
        if (chain && tls::verify(*chain, {use, {}, &authority.root(), {world_.now()}})) continue;
        TRY(rotate(policy, false, true));
    }
    TRY(renew_probe());
    if (!world_.served) return true;
    for (const auto& policy : policy_.tls.certificates) {  // what was reissued earlier, too, must be what is shown
        if (policy.issuer != "local") continue;
        const Consumer consumer(places_, world_, policy);
        const auto chain = chain_of(TRY(consumer.open_store()), TRY(consumer.current()));
        for (const auto& endpoint : endpoints_of(policy_, places_, policy)) {
            const auto shown = world_.served(endpoint, policy.names.front());
            if (shown && chain && *shown != chain->leaf().fingerprint) return false;
        }
    }
    return true;
}

Result<Step> Rotator::roll_over(bool until_overlap) {
    auto authority = TRY(Authority::open(places_, policy_.tls, world_.host, world_.now()));
    if (authority.step() == Step::none) TRY(authority.stage(world_.host, world_.now()));
    if (authority.step() == Step::staged) TRY(authority.advance(Step::overlap));
    TRY(publish_bundles(places_, policy_, TRY(authority.bundle())));
    const bool proxy = world_.reload_proxy && std::ranges::any_of(policy_.tls.certificates, [](const CertificatePolicy& one) {
                           return one.install == CertificatePolicy::Install::nginx;
                       });
    if (proxy) TRY(world_.reload_proxy());
    if (authority.step() == Step::overlap && until_overlap) return Step::overlap;
    // Whoever reads a bundle of ours believes both from here on, so that it no longer matters which of them signed what is shown.
    if (authority.step() == Step::overlap) TRY(authority.advance(Step::reissue));
    if (!TRY(reissue_all())) return Step::reissue;
    TRY(authority.retire(policy_.tls.require_client_certificate ? std::optional(world_.now()) : std::nullopt));
    TRY(publish_bundles(places_, policy_, TRY(authority.bundle())));
    if (proxy) TRY(world_.reload_proxy());
    // The change is made; what this leaves undone stays a finding until it is done.
    const auto sessions = forget_sessions();
    if (!sessions)
        notes_.push_back(sessions.error().text());
    else if (*sessions == World::Sessions::kept)
        notes_.emplace_back("Prometheus may resume sessions of clients of the old authority until it is restarted");
    return Step::none;
}

/// New connections are judged by the bundle as it is now; a session from before may not be. A server that could resume one is restarted, and seen to serve again.
Result<World::Sessions> Rotator::forget_sessions() {
    using Sessions = World::Sessions;
    auto authority = TRY(Authority::look(places_));
    if (!authority || !authority->removed()) return Sessions::none;
    if (!world_.forget_sessions) return Sessions::kept;
    const auto sessions = TRY(world_.forget_sessions(*authority->removed()));
    if (sessions == Sessions::kept) return sessions;
    TRY(authority->forgotten());
    if (sessions == Sessions::none) return sessions;
    notes_.emplace_back("Prometheus was restarted: it could have resumed sessions of clients of the old authority");
    for (const auto& policy : policy_.tls.certificates)
        if (policy.install == CertificatePolicy::Install::prometheus_web)
            TRY(wait_for(world_, endpoints_of(policy_, places_, policy), policy));
    return sessions;
}

}  // namespace promwarden::rotation
