// The local authority on disk. One file says which generations are in use, and it changes by one rename; everything it names is complete by then.

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "parts.hpp"
#include "promwarden/nginx.hpp"

namespace promwarden::rotation {

namespace {

using namespace std::chrono_literals;

constexpr auto year = 24h * 365;
constexpr auto root_life = 10 * year, issuing_life = 3 * year;
constexpr auto backdated = 300s;
constexpr std::array<std::string_view, 4> steps{"", "staged", "overlap", "reissue"};

std::string short_name(const std::string& host) { return host.substr(0, 30); }  // a common name has at most 64 characters

Result<tls::Chain> chain_in(const tls::Store& store, unsigned generation) { return tls::Chain::parse(TRY(store.certificate(generation)), store.directory(generation) + "/cert.pem"); }
Result<tls::Key> key_in(const tls::Store& store, unsigned generation) { return tls::Key::parse(tls::view(TRY(store.key(generation))), store.directory(generation) + "/key.pem"); }

bool covers(const std::vector<std::string>& all, const std::vector<std::string>& some) {
    return std::ranges::all_of(some, [&](const std::string& one) { return std::ranges::find(all, one) != all.end(); });
}
/// Whether what may be signed under `have` includes everything that `want` asks for, and limits something if that limits.
bool covers(const tls::Constraints& have, const tls::Constraints& want) {
    return have.names.empty() == want.names.empty() && covers(have.names, want.names) && covers(have.domains, want.domains);
}

}  // namespace

std::string_view to_text(Step step) { return step == Step::none ? "done" : steps[static_cast<std::size_t>(step)]; }

Result<> Authority::load() {
    const auto file = directory_ + "/authority.json";
    const auto text = TRY(read_trusted_file(file, 1 << 20));
    const auto json = TRY(parse_json(text.text));
    const auto number = [&](const char* name) { return json.is_object() && json.contains(name) && json[name].is_number_unsigned() ? json[name].get<unsigned>() : 0u; };
    number_ = number("root");
    issuing_number_ = number("issuing");
    other_ = number("other");
    other_issuing_ = number("other_issuing");
    const auto step = json.is_object() && json.contains("step") && json["step"].is_string() ? json["step"].get<std::string>() : "?";
    const auto known = std::ranges::find(steps, step);
    if (number_ == 0 || issuing_number_ == 0 || known == steps.end() || !json.contains("names") || !json.contains("domains"))
        return fail(Code::invalid, "read", file, "it is damaged");
    step_ = static_cast<Step>(known - steps.begin());
    removed_.reset();
    if (const auto removed = json.find("removed"); removed != json.end() && removed->is_string()) removed_ = TRY(parse_time(removed->get<std::string>()));
    constraints_ = {};
    for (const auto& [key, into] : {std::pair{"names", &constraints_.names}, {"domains", &constraints_.domains}})
        for (const auto& one : json[key])
            if (one.is_string()) into->push_back(one.get<std::string>());
    root_ = TRY(chain_in(TRY(tls::Store::look(directory_ + "/roots")), number_));
    issuing_ = TRY(chain_in(TRY(tls::Store::look(directory_ + "/issuing")), issuing_number_));
    return {};
}

Result<> Authority::save() const {
    Json json{{"root", number_}, {"issuing", issuing_number_}, {"other", other_},      {"other_issuing", other_issuing_}, {"step", steps[static_cast<std::size_t>(step_)]},
                    {"names", constraints_.names},                   {"domains", constraints_.domains}};
    if (removed_) json["removed"] = format_time(*removed_);
    return publish_file(directory_ + "/authority.json", json_text(json) + "\n", 0600);
}

Result<unsigned> Authority::add_root(const std::string& host, Time now) {
    const auto store = TRY(roots());
    const auto existing = TRY(store.generations());
    const auto key = TRY(tls::Key::generate(tls::Key::Kind::ecdsa_p256));
    const auto name = fmt::format("{} root {}-{}", short_name(host), existing.empty() ? 1 : existing.back() + 1, key.public_key().substr(0, 8));
    const auto root = TRY(tls::make_root(key, name, {now, now + root_life}));
    return store.add(tls::view(TRY(key.pem())), root.pem());
}

Result<unsigned> Authority::add_issuing(unsigned root, const std::string& host, Time now) {
    const auto root_store = TRY(roots());
    const auto root_chain = TRY(chain_in(root_store, root));
    const auto root_key = TRY(key_in(root_store, root));
    const auto key = TRY(tls::Key::generate(tls::Key::Kind::ecdsa_p256));
    const auto name = fmt::format("{} issuing {}-{}", short_name(host), root, key.public_key().substr(0, 8));
    const auto issuing = TRY(tls::make_issuing(key, name, root_chain, root_key, constraints_, {now, now + issuing_life}));
    return TRY(issuers()).add(tls::view(TRY(key.pem())), issuing.pem());
}

/// What was made and never used, and what is retired: a run ended between making or retiring it and the next step.
Result<> Authority::sweep() const {
    const auto root_store = TRY(roots()), issuing_store = TRY(issuers());
    for (const auto generation : TRY(root_store.generations()))
        if (generation != number_ && generation != other_) TRY(root_store.remove(generation));
    for (const auto generation : TRY(issuing_store.generations()))
        if (generation != issuing_number_ && generation != other_issuing_) TRY(issuing_store.remove(generation));
    return {};
}

Result<std::optional<Authority>> Authority::look(const Places& places) {
    Authority authority(state_directory(places) + "/authority");
    const auto loaded = authority.load();
    if (!loaded && loaded.error().code == Code::missing) return std::optional<Authority>{};
    if (!loaded) return std::unexpected(loaded.error());
    return std::optional(std::move(authority));
}

Result<Authority> Authority::open(const Places& places, const TlsPolicy& policy, const std::string& host, Time now) {
    Authority authority(state_directory(places) + "/authority");
    TRY(make_directory(authority.directory_, 0700));
    const auto wanted = tls::constraints_of(policy);
    const auto loaded = authority.load();
    if (!loaded && loaded.error().code != Code::missing) return std::unexpected(loaded.error());
    if (!loaded) {
        authority.constraints_ = wanted;
        authority.number_ = TRY(authority.add_root(host, now));
        authority.issuing_number_ = TRY(authority.add_issuing(authority.number_, host, now));
        TRY(authority.save());
        TRY(authority.load());
    }
    const auto& signer = authority.issuing_->leaf();
    const bool running_out = signer.not_after - now < issuing_life / 3 && signer.not_after < authority.root_->leaf().not_after;
    if (running_out || !covers(authority.constraints_, wanted)) {
        authority.constraints_ = wanted;
        authority.issuing_number_ = TRY(authority.add_issuing(authority.number_, host, now));
        if (authority.step_ == Step::staged || authority.step_ == Step::overlap) authority.other_issuing_ = TRY(authority.add_issuing(authority.other_, host, now));
        TRY(authority.save());
        TRY(authority.load());
    }
    TRY(authority.sweep());
    return authority;
}

Result<tls::Chain> Authority::sign(const tls::Key& key, const tls::Subject& subject, std::chrono::seconds lifetime, Time now) const {
    const auto issuing_key = TRY(key_in(TRY(issuers()), issuing_number_));
    const auto leaf = TRY(tls::make_leaf(key, subject, *issuing_, issuing_key, {now - backdated, now - backdated + lifetime}));
    return leaf.followed_by(*issuing_);
}

Result<std::string> Authority::bundle() const {
    std::string pem = root_->pem();
    if (step_ == Step::overlap || step_ == Step::reissue) pem += TRY(TRY(tls::Store::look(directory_ + "/roots")).certificate(other_));
    return pem;
}

Result<> Authority::stage(const std::string& host, Time now) {
    other_ = TRY(add_root(host, now));
    other_issuing_ = TRY(add_issuing(other_, host, now));
    step_ = Step::staged;
    return save();
}

Result<> Authority::advance(Step to) {
    if (to == Step::reissue) {  // from here the new one signs; the old one is believed until nobody shows its certificates any more
        std::swap(number_, other_);
        std::swap(issuing_number_, other_issuing_);
    }
    step_ = to;
    TRY(save());
    return load();
}

Result<> Authority::retire(std::optional<Time> removed) {
    const auto old = other_, old_issuing = other_issuing_;
    const auto root_store = TRY(roots());
    const auto certificate = TRY(root_store.certificate(old));
    TRY(make_directory(directory_ + "/retired", 0700));
    TRY(publish_file(fmt::format("{}/retired/root-{}.pem", directory_, old), certificate, 0600));
    step_ = Step::none;
    other_ = other_issuing_ = 0;
    if (removed) removed_ = removed;
    TRY(save());
    TRY(root_store.remove(old));
    if (old_issuing != 0) TRY(TRY(issuers()).remove(old_issuing));
    return {};
}

Result<> Authority::forgotten() {
    removed_.reset();
    return save();
}

Result<bool> publish_bundles(const Places& places, const Policy& policy, const std::string& pem) {
    bool changed = false;
    for (const auto install : {CertificatePolicy::Install::prometheus_web, CertificatePolicy::Install::nginx}) {
        const bool nginx = install == CertificatePolicy::Install::nginx;
        const bool used = std::ranges::any_of(policy.tls.certificates, [&](const CertificatePolicy& one) { return (one.install == CertificatePolicy::Install::nginx) == nginx; });
        if (!used) continue;
        const auto& base = nginx ? places.nginx : places.prometheus;
        const auto file = bundle_file(places, install);
        TRY(make_directory_for(base, nginx ? nginx::worker_group() : "prometheus"));
        TRY(tls::Store::open(base + "/tls", 0750, 0640));
        const auto there = read_trusted_file(file, 1 << 20);
        if (there && there->text == pem) continue;
        TRY(tls::publish_through(base + "/tls", file, pem, 0644));
        const auto back = TRY(read_trusted_file(file, 1 << 20));
        if (back.text != pem) return fail(Code::failed, "publish", file, "it is not what was written");
        changed = true;
    }
    return changed;
}

}  // namespace promwarden::rotation
