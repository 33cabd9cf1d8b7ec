/// rotation — certificates as operations: issue, publish where a service reads, see it served, go back where it is not, and change the authority itself.
///
/// Stands between the certificates and the files of Prometheus and nginx, which do not know each other. Owns /var/lib/promwarden/tls and what it puts below
/// /etc/prometheus/promwarden/tls and /etc/nginx/promwarden/tls. Promises: what is published is a complete pair that strict verification accepts, and it appears by
/// one rename of the one file that is read once; killed at any point, the next run continues or has the old one back; a failed run waits before the next; a
/// private key leaves this process only into files that others cannot read. Blocks: for an event loop, run it in a child.
#pragma once

#include "promwarden/tls.hpp"

namespace promwarden::rotation {

using tls::Time;

struct Places {
    std::string state;                                     // of promwarden; tls/ in it is ours
    std::string prometheus = "/etc/prometheus/promwarden";
    std::string nginx = "/etc/nginx/promwarden";
    std::string web_config = "/etc/prometheus/web.yml";
    std::string prometheus_config = "/etc/prometheus/prometheus.yml";
    std::string nginx_config = "/etc/nginx/nginx.conf";
    std::string probe = "/etc/promwarden/probe";           // the probe's own certificate, where this directory exists
};
Places places_of(const Policy& policy, std::string state);
/// Where a certificate is served, as far as the policy or nginx's configuration says; wildcards as loopback. Empty: by nobody that we could ask.
std::vector<Endpoint> endpoints_of(const Policy& policy, const Places& places, const CertificatePolicy& certificate);
/// What a service configures: the pair's directory for `files`, the file to include for nginx; web.yml knows by itself.
std::string certificate_file(const Places& places, const CertificatePolicy& policy, unsigned generation);
/// The roots that consumers on this host are to believe, for Prometheus and for nginx.
std::string bundle_file(const Places& places, CertificatePolicy::Install install);

/// Makes a directory of ours below a service's, which that group may read: 2750, so that what is made in it belongs to the group. One that exists is left as it is.
Result<> make_directory_for(const std::string& path, const char* group);

/// What is asked of the world outside, as functions, so that a test can answer.
struct World {
    std::function<Time()> now;
    std::string machine, host;
    bool synchronised = true;
    /// Fingerprint of the leaf that is shown to a client that asks that endpoint for that name. None: nobody can look.
    std::function<Result<std::string>(const Endpoint&, const std::string& name)> served;
    /// Checks nginx's configuration and has it read again. None: there is no nginx.
    std::function<Result<>()> reload_proxy;
    /// Has Prometheus forget the TLS sessions of clients whose authority is believed no more since then. None: nobody can tell.
    enum class Sessions : std::uint8_t { none, ended, kept };  // it has none that it would resume; it was restarted; it may resume them, and the policy says when it restarts
    std::function<Result<Sessions>(Time)> forget_sessions;
    /// As `promtool check web-config`. None: it is not installed.
    std::function<Result<>(const std::string& path)> check_web_config;
    /// A request in PEM to what the issuer's command said. See parse_signed.
    std::function<Result<std::string>(const TlsPolicy::Issuer&, const std::string& request)> sign;
};
/// This host: its clock, its programs. What it does not have are `served`, `reload_proxy` and `forget_sessions`: those are made of what other rooms know. Where a sandbox hides the clock's state, `may_wait` asks the system bus for it.
World host_world(bool may_wait);

/// Restarts it by the service manager. Code::unsupported where there is none.
Result<> restart_unit(const std::string& unit);

struct Signed {
    tls::Chain chain;
    std::optional<std::pair<Time, Time>> window;
};
/// What an issuer's command says: optionally a line "renewal-window: FROM UNTIL" (RFC 3339), which is the window of RFC 9773, then the chain.
Result<Signed> parse_signed(std::string_view text, const std::string& issuer);

struct Outcome {
    std::string name;
    tls::Action action = tls::Action::none;
    std::optional<Certificate> before, after;
    std::optional<bool> served;  // nullopt: nobody could look, or nothing serves it
    std::string note;            // for a person
};

/// A change of the local authority. Each step is durable before the next begins.
enum class Step : std::uint8_t { none, staged, overlap, reissue };
std::string_view to_text(Step step);

/// Whoever changes anything has one of these: it excludes others, and what an earlier one left unfinished is finished or taken back when it is opened.
class Rotator {
public:
    static Result<Rotator> open(Places places, World world, const Policy& policy);

    /// A certificate now, whatever the rule says. `rekey`: with a new key. `force`: even if it expires before the one that is there.
    Result<Outcome> rotate(const CertificatePolicy& policy, bool rekey, bool force = false);
    /// Everything that is due; what another tool renewed is judged, and its service made to read it; a change of the authority goes on. One that fails does not keep others from being done: its error is in its outcome's note.
    std::vector<Outcome> rotate_due();
    /// A new authority takes the place of the old one: begins, or continues. Says which step was reached; `none`: it is done. With `until_overlap` it waits there,
    /// so that hosts that we do not manage can be given the bundle.
    Result<Step> roll_over(bool until_overlap);
    /// What finishing the work of an interrupted run did.
    [[nodiscard]] const std::vector<Outcome>& recovered() const { return recovered_; }
    /// What was done besides what was asked for.
    [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }

private:
    Rotator(Places places, World world, const Policy& policy, Fd lock) : places_(std::move(places)), world_(std::move(world)), policy_(policy), lock_(std::move(lock)) {}
    struct Attempt;
    Result<> recover();
    Result<> finish_interrupted(const CertificatePolicy& policy);
    Result<Outcome> attempt(const CertificatePolicy& policy, bool rekey, bool force, RenewalRecord& record);
    Result<Signed> sign(const CertificatePolicy& policy, const tls::Key& key);
    Result<> publish(const CertificatePolicy& policy, Attempt& attempt);
    Result<> prune(const CertificatePolicy& policy);
    std::optional<Outcome> follow(const CertificatePolicy& policy);
    std::optional<Outcome> rotate_if_due(const CertificatePolicy& policy);
    Result<> renew_probe();
    Result<bool> reissue_all();
    Result<World::Sessions> forget_sessions();

    Places places_;
    World world_;
    const Policy& policy_;
    Fd lock_;
    std::vector<Outcome> recovered_;
    std::vector<std::string> notes_;
};

/// Everything about the policy's certificates that can be seen without changing anything. Where `world.served` is there, endpoints are asked.
Result<CertificateFacts> observe(const Policy& policy, const Places& places, const World& world);
/// Whether another tool put there what its service was not yet made to read.
bool renewed_by_another(const ManagedCertificate& known);
/// When rotate_due would have something to do for that one: now, later, or, where it never would, far away.
Time next_run(const CertificatePolicy& certificate, const ManagedCertificate& known, const Policy& policy, const CertificateFacts& facts, Time now);
/// The moment at which rotate_due should run next.
Time next_run(const Policy& policy, const CertificateFacts& facts, Time now);

Json to_json(const ManagedCertificate& certificate, const Policy& policy, const CertificateFacts& facts, Time now);
Json to_json(const Outcome& outcome);

}  // namespace promwarden::rotation
