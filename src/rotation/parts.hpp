// What the parts of this room share.
#pragma once

#include "promwarden/rotation.hpp"

namespace promwarden::rotation {

std::string state_directory(const Places& places);  // …/tls
std::string record_file(const Places& places, const std::string& name);
RenewalRecord read_record_of(const Places& places, const std::string& name);
Result<> write_record(const Places& places, const std::string& name, const RenewalRecord& record);

/// How a certificate was seen by clients.
struct Sight {
    std::optional<bool> served;  // nullopt: nobody could look, or nothing serves it
    std::string note;            // what was in the way, for a person
};
/// Whether anybody answers where it should be served, whatever is shown there.
bool answers(const World& world, const std::vector<Endpoint>& endpoints, const CertificatePolicy& policy);
/// Has it read again where that is needed, and looks whether it is what every client is shown. `answered`: somebody did before, so that nobody doing so now is an error.
Result<Sight> settle(const World& world, const std::vector<Endpoint>& endpoints, const CertificatePolicy& policy, const std::string& fingerprint, bool answered);

/// A pair that nginx is configured to serve.
struct ProxyPair {
    std::string certificate, key;
    std::vector<std::string> names;
    std::vector<Endpoint> endpoints;  // those that speak TLS; loopback for wildcards
};
Result<std::vector<ProxyPair>> proxy_pairs(const Places& places);
/// The one of a server that is called by one of the certificate's names, or the only one.
std::optional<ProxyPair> pair_for(const std::vector<ProxyPair>& pairs, const CertificatePolicy& policy);

std::optional<tls::Chain> chain_of(const tls::Store& store, std::optional<unsigned> generation);
/// A certificate of the policy as it is on disk. `root`: of the local authority.
ManagedCertificate published(const Policy& policy, const Places& places, const World& world, const CertificatePolicy& certificate, const std::optional<tls::Chain>& root);
/// Whether the probe's own certificate is missing, runs out, or is of an authority that is believed no more (null: there is none yet).
bool probe_due(const Policy& policy, const Places& places, const tls::Chain* root, Time now);

/// Where a consumer finds its pair, and how it is told of another.
class Consumer {
public:
    /// `clients_too`: web.yml is to demand certificates of clients.
    Consumer(const Places& places, const World& world, const CertificatePolicy& policy, bool clients_too = false);

    [[nodiscard]] Result<tls::Store> open_store() const;
    [[nodiscard]] const std::string& directory() const { return directory_; }  // of the store
    /// The generation that the consumer reads; nullopt: none of ours.
    [[nodiscard]] Result<std::optional<unsigned>> current() const;
    /// By one rename of the one file that is read once.
    [[nodiscard]] Result<> point_to(unsigned generation) const;
    /// As it was before the first of ours: the file's text; nullopt where there was none.
    [[nodiscard]] Result<std::optional<std::string>> text() const;
    [[nodiscard]] Result<> put_back(const std::optional<std::string>& text) const;

private:
    [[nodiscard]] Result<> publish_web(std::string_view text) const;

    const Places& places_;
    const World& world_;
    const CertificatePolicy& policy_;
    bool clients_too_;
    std::string base_, directory_, pointer_;
};

/// The local authority on disk: a root, and what signs under it. Made where there is none, renewed under the same root where it runs out or must sign more names.
class Authority {
public:
    static Result<Authority> open(const Places& places, const TlsPolicy& policy, const std::string& host, Time now);
    /// Nothing is made; nullopt where there is none.
    static Result<std::optional<Authority>> look(const Places& places);

    [[nodiscard]] Result<tls::Chain> sign(const tls::Key& key, const tls::Subject& subject, std::chrono::seconds lifetime, Time now) const;
    [[nodiscard]] const tls::Chain& root() const { return *root_; }
    /// Every root that is to be believed now.
    [[nodiscard]] Result<std::string> bundle() const;
    [[nodiscard]] Step step() const { return step_; }
    /// One step further, durable when it returns.
    Result<> stage(const std::string& host, Time now);
    Result<> advance(Step to);
    /// The old root is believed no more; its keys are destroyed, its certificate stays for those who look back. `removed`: since when clients of it are refused.
    Result<> retire(std::optional<Time> removed);
    /// Nobody goes on with a session that a client of an old authority began.
    Result<> forgotten();
    [[nodiscard]] const std::optional<Time>& removed() const { return removed_; }

private:
    explicit Authority(std::string directory) : directory_(std::move(directory)) {}
    Result<> load();
    Result<> save() const;
    Result<unsigned> add_root(const std::string& host, Time now);
    Result<unsigned> add_issuing(unsigned root, const std::string& host, Time now);
    Result<> sweep() const;
    [[nodiscard]] Result<tls::Store> roots() const { return tls::Store::open(directory_ + "/roots", 0700, 0600); }
    [[nodiscard]] Result<tls::Store> issuers() const { return tls::Store::open(directory_ + "/issuing", 0700, 0600); }

    std::string directory_;
    unsigned number_ = 0, issuing_number_ = 0;  // generations in use
    unsigned other_ = 0, other_issuing_ = 0;    // of a change: the next ones until `reissue`, the old root from then on
    Step step_ = Step::none;
    tls::Constraints constraints_;
    std::optional<Time> removed_;
    std::optional<tls::Chain> root_, issuing_;
};

/// Writes the bundles where they are not what they should be, and reads them back.
Result<bool> publish_bundles(const Places& places, const Policy& policy, const std::string& pem);

}  // namespace promwarden::rotation
