// One rotation: sign, verify, say what is about to happen, publish, look, and keep it or go back.

#include <algorithm>
#include <filesystem>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "parts.hpp"

namespace promwarden::rotation {

namespace {

using namespace std::chrono_literals;

constexpr auto kept_at_least = 10min;   // of a generation that nobody names any more

std::string intent_file(const Places& places, const std::string& name) { return fmt::format("{}/intents/{}.json", state_directory(places), name); }

/// What an interrupted publish_file left in a directory that is ours alone.
void sweep_hidden(const std::string& directory) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(directory, ignored))
        if (entry.path().filename().string().starts_with('.')) ::unlink(entry.path().c_str());
}

}  // namespace

std::optional<tls::Chain> chain_of(const tls::Store& store, std::optional<unsigned> generation) {
    if (!generation) return std::nullopt;
    const auto pem = store.certificate(*generation);
    auto chain = pem ? tls::Chain::parse(*pem, "") : std::unexpected(pem.error());
    return chain ? std::optional(*std::move(chain)) : std::nullopt;
}

std::string state_directory(const Places& places) { return places.state + "/tls"; }
std::string record_file(const Places& places, const std::string& name) { return fmt::format("{}/certificates/{}.json", state_directory(places), name); }

RenewalRecord read_record_of(const Places& places, const std::string& name) {
    const auto file = read_trusted_file(record_file(places, name), 1 << 20);
    const auto record = file ? tls::read_record(file->text) : std::unexpected(file.error());
    return record.value_or(RenewalRecord{});
}

Result<> write_record(const Places& places, const std::string& name, const RenewalRecord& record) {
    return publish_file(record_file(places, name), json_text(tls::to_json(record)) + "\n", 0600);
}

/// What is known of one rotation while it happens, and all that must be known to finish it if it is interrupted.
struct Rotator::Attempt {
    tls::Action action = tls::Action::none;
    std::optional<unsigned> before_generation, generation;
    std::optional<Certificate> before;
    std::optional<tls::Chain> chain;
    std::optional<std::string> before_text;  // of what pointed to the pair before, where that was none of ours
    bool answered = false;                   // somebody served before
    Sight sight;
};

Result<Rotator> Rotator::open(Places places, World world, const Policy& policy) {
    const auto directory = state_directory(places);
    for (const auto* name : {"", "/certificates", "/intents"}) TRY(make_directory(directory + name, 0700));
    TRY(list_trusted_directory(directory, "\n"));  // refuses one that others can write
    auto held = TRY(lock_file(directory + "/lock"));
    Rotator rotator(std::move(places), std::move(world), policy, std::move(held));
    TRY(rotator.recover());
    return rotator;
}

Result<> Rotator::recover() {
    for (const auto* name : {"", "/certificates", "/intents", "/authority"}) sweep_hidden(state_directory(places_) + name);
    if (std::ranges::any_of(policy_.tls.certificates, [](const CertificatePolicy& one) { return one.install == CertificatePolicy::Install::prometheus_web; }))
        TRY(remove_file(places_.web_config + ".promwarden"));
    for (const auto& certificate : policy_.tls.certificates) {
        if (certificate.issuer == "watch") continue;
        TRY(finish_interrupted(certificate));
        (void)prune(certificate);  // what cannot be removed now is in nobody's way
    }
    return {};
}

/// The intent says what was about to be there; what is there says how far it came. Published: looked at and kept, or taken back. Not published: it failed.
Result<> Rotator::finish_interrupted(const CertificatePolicy& policy) {
    const auto file = intent_file(places_, policy.name);
    const auto text = read_trusted_file(file, 1 << 20);
    if (!text && text.error().code == Code::missing) return {};
    const auto json = text ? parse_json(text->text) : std::unexpected(text.error());
    const auto member = [&](const char* name) { return json && json->is_object() && json->contains(name) && (*json)[name].is_string() ? (*json)[name].get<std::string>() : std::string(); };
    const Consumer consumer(places_, world_, policy, policy_.tls.require_client_certificate);
    const auto store = TRY(consumer.open_store());
    const auto current = TRY(consumer.current());
    auto chain = chain_of(store, current);
    auto record = read_record_of(places_, policy.name);
    if (chain && chain->leaf().fingerprint == member("after")) {
        const auto action = member("action") == "rekey" ? tls::Action::rekey : tls::Action::renew;
        const auto settled = settle(world_, endpoints_of(policy_, places_, policy), policy, chain->leaf().fingerprint, false);
        record.attempts = 0;
        record.last_error.clear();
        record.next_try = {};
        record.rotated = world_.now();
        if (action == tls::Action::rekey) record.key_made = world_.now();
        TRY(write_record(places_, policy.name, record));
        recovered_.push_back({policy.name, action, {}, chain->leaf(), settled ? settled->served : false, settled ? "an interrupted rotation is finished" : settled.error().text()});
    } else {
        const auto leaf = chain ? std::optional(chain->leaf()) : std::nullopt;
        TRY(write_record(places_, policy.name, tls::after_failure(record, "the rotation was interrupted before it was published", leaf, world_.now())));
    }
    return remove_file(file);
}

Result<Signed> Rotator::sign(const CertificatePolicy& policy, const tls::Key& key) {
    const auto subject = tls::subject_of(policy);
    const auto now = world_.now();
    if (policy.issuer == "local") {
        const auto authority = TRY(Authority::open(places_, policy_.tls, world_.host, now));
        TRY(publish_bundles(places_, policy_, TRY(authority.bundle())));
        auto chain = TRY(authority.sign(key, subject, policy.lifetime, now));
        TRY(tls::verify(chain, {subject.use, policy.names, &authority.root(), tls::moments_of(chain.leaf(), now)}));
        return Signed{std::move(chain), {}};
    }
    const auto issuer = std::ranges::find(policy_.tls.issuers, policy.issuer, &TlsPolicy::Issuer::name);
    if (issuer == policy_.tls.issuers.end()) return fail(Code::invalid, "issue", policy.name, "another tool renews it; promwarden only watches");
    if (!world_.sign) return fail(Code::unsupported, "issue", policy.name, "issuers' commands cannot be run here");
    auto made = TRY(parse_signed(TRY(world_.sign(*issuer, TRY(tls::make_request(key, subject)))), issuer->name));
    if (made.chain.leaf().public_key != key.public_key()) return fail(Code::invalid, "issue", policy.name, "the certificate that came is for another key");
    // It took its time: what was made meanwhile need not have been valid when it was asked for.
    TRY(tls::verify(made.chain, {subject.use, policy.names, nullptr, tls::moments_of(made.chain.leaf(), world_.now())}));
    return made;
}

Result<Outcome> Rotator::rotate(const CertificatePolicy& policy, bool rekey, bool force) {
    auto record = read_record_of(places_, policy.name);
    auto done = attempt(policy, rekey, force, record);
    if (!done) {
        const Consumer consumer(places_, world_, policy);
        const auto current = consumer.current();
        const auto store = current && *current ? consumer.open_store() : std::unexpected(Error{});
        const auto chain = store ? chain_of(*store, *current) : std::nullopt;
        record = tls::after_failure(record, done.error().text(), chain ? std::optional(chain->leaf()) : std::nullopt, world_.now());
    }
    const auto written = write_record(places_, policy.name, record);
    if (!done) return done;
    // It is done, and what goes wrong from here on is worth a note. Until the intent is away, whoever comes next looks again: it stays where the record could not be kept.
    const auto cleared = written ? remove_file(intent_file(places_, policy.name)) : written;
    for (const auto& after : {cleared, prune(policy)})
        if (!after) done->note += fmt::format("{}{}", done->note.empty() ? "" : "; ", after.error().text());
    return done;
}

Result<Outcome> Rotator::attempt(const CertificatePolicy& policy, bool rekey, bool force, RenewalRecord& record) {
    const Consumer consumer(places_, world_, policy, policy_.tls.require_client_certificate);
    const auto store = TRY(consumer.open_store());
    Attempt attempt;
    attempt.before_generation = TRY(consumer.current());
    const auto before = chain_of(store, attempt.before_generation);
    if (before) attempt.before = before->leaf();
    auto key = attempt.before_generation && !rekey ? tls::Key::parse(tls::view(TRY(store.key(*attempt.before_generation))), store.directory(*attempt.before_generation) + "/key.pem")
                                                   : tls::Key::generate(policy.key);
    constexpr std::array<std::string_view, 3> kinds{"ecdsa-p256", "ed25519", "rsa-3072"};
    if (key && !rekey && attempt.before_generation && key->kind() != kinds[static_cast<std::size_t>(policy.key)]) key = tls::Key::generate(policy.key);  // the policy wants another kind
    if (!key) return std::unexpected(key.error());
    attempt.action = before && key->public_key() == before->leaf().public_key ? tls::Action::renew : tls::Action::rekey;
    auto made = TRY(sign(policy, *key));
    if (const auto reason = tls::worse(attempt.before, made.chain.leaf(), policy, world_.now(), force)) return fail(Code::invalid, "rotate", policy.name, *reason);
    if (attempt.action == tls::Action::rekey) attempt.generation = TRY(store.add(tls::view(TRY(key->pem())), made.chain.pem()));
    else attempt.generation = attempt.before_generation;
    attempt.chain = std::move(made.chain);
    TRY(publish(policy, attempt));
    record.attempts = 0;
    record.last_error.clear();
    record.next_try = {};
    record.last_attempt = record.rotated = world_.now();
    if (attempt.action == tls::Action::rekey) record.key_made = world_.now();
    record.window = made.window ? tls::choose_window(made.window->first, made.window->second, world_.machine + attempt.chain->leaf().serial) : std::nullopt;
    return Outcome{policy.name, attempt.action, attempt.before, attempt.chain->leaf(), attempt.sight.served, attempt.sight.note};
}

Result<> Rotator::publish(const CertificatePolicy& policy, Attempt& attempt) {
    const Consumer consumer(places_, world_, policy, policy_.tls.require_client_certificate);
    const auto store = TRY(consumer.open_store());
    attempt.before_text = TRY(consumer.text());
    const auto endpoints = endpoints_of(policy_, places_, policy);
    attempt.answered = answers(world_, endpoints, policy);
    const Json intent{{"name", policy.name},
                      {"action", attempt.action == tls::Action::rekey ? "rekey" : "renew"},
                      {"generation", *attempt.generation},
                      {"before", attempt.before ? attempt.before->fingerprint : ""},
                      {"after", attempt.chain->leaf().fingerprint}};
    TRY(publish_file(intent_file(places_, policy.name), json_text(intent) + "\n", 0600));
    // From here a run that is interrupted leaves either the old one or the new one in use, and a record of what was meant.
    const bool renew = attempt.action == tls::Action::renew;
    TRY(renew ? store.replace_certificate(*attempt.generation, attempt.chain->pem()) : consumer.point_to(*attempt.generation));
    auto settled = settle(world_, endpoints, policy, attempt.chain->leaf().fingerprint, attempt.answered);
    if (settled) {
        attempt.sight = *std::move(settled);
        return {};
    }
    auto back = renew                       ? store.replace_certificate(*attempt.generation, TRY(store.certificate(*attempt.generation, "previous.pem")))
                : attempt.before_generation ? consumer.point_to(*attempt.before_generation)
                                            : consumer.put_back(attempt.before_text);
    if (back && policy.install == CertificatePolicy::Install::nginx && world_.reload_proxy) back = world_.reload_proxy();
    auto error = settled.error();
    error.detail += back ? " (the one before is back)" : fmt::format(" (and the one before could not be put back: {})", back.error().text());
    if (back) TRY(remove_file(intent_file(places_, policy.name)));
    return std::unexpected(std::move(error));
}

/// Generations that nobody names, once the one in use has been there for so long that nobody can be in the middle of reading another.
Result<> Rotator::prune(const CertificatePolicy& policy) {
    const Consumer consumer(places_, world_, policy);
    const auto current = TRY(consumer.current());
    if (!current) return {};
    const auto store = TRY(consumer.open_store());
    if (world_.now() - TRY(store.made(*current)) < kept_at_least) return {};
    std::string named;
    for (const auto& file : {places_.web_config, places_.prometheus_config})
        if (const auto text = read_file(file, 16 << 20)) named += text->text;
        else if (text.error().code != Code::missing) return {};  // what it names cannot be known
    const auto pairs = policy.install == CertificatePolicy::Install::nginx ? proxy_pairs(places_) : std::vector<ProxyPair>{};
    if (!pairs && pairs.error().code != Code::missing) return {};
    for (const auto& pair : pairs.value_or(std::vector<ProxyPair>{})) named += pair.certificate + "\n" + pair.key + "\n";
    for (const auto generation : TRY(store.generations())) {
        if (generation == *current || named.find(fmt::format("tls/{}/{}/", policy.name, generation)) != std::string::npos) continue;
        if (world_.now() - TRY(store.made(generation)) < kept_at_least) continue;
        TRY(store.remove(generation));
    }
    return {};
}

std::optional<Outcome> Rotator::rotate_if_due(const CertificatePolicy& policy) {
    const Consumer consumer(places_, world_, policy);
    const auto current = consumer.current();
    const auto store = current && *current ? consumer.open_store() : std::unexpected(Error{});
    const auto chain = store ? chain_of(*store, *current) : std::nullopt;
    const auto leaf = chain ? std::optional(chain->leaf()) : std::nullopt;
    const auto renewal = tls::next_renewal(policy, policy_.tls.maintenance, leaf, read_record_of(places_, policy.name), world_.machine, world_.now(), world_.synchronised);
    if (renewal.action == tls::Action::none || renewal.when > world_.now()) return std::nullopt;
    auto done = rotate(policy, renewal.action == tls::Action::rekey);
    return done ? *std::move(done) : Outcome{policy.name, tls::Action::none, leaf, {}, {}, done.error().text()};
}

std::vector<Outcome> Rotator::rotate_due() {
    std::vector<Outcome> outcomes;
    for (const auto& policy : policy_.tls.certificates) {
        auto done = policy.issuer == "watch" ? follow(policy) : rotate_if_due(policy);
        if (done) outcomes.push_back(*std::move(done));
    }
    if (const auto probe = renew_probe(); !probe) outcomes.push_back({"promwarden-probe", tls::Action::none, {}, {}, {}, probe.error().text()});
    const auto authority = Authority::look(places_);
    if (authority && *authority && (*authority)->step() != Step::none && (*authority)->step() != Step::overlap) (void)roll_over(false);
    else (void)forget_sessions();  // what cannot be done now is a finding
    return outcomes;
}

}  // namespace promwarden::rotation
