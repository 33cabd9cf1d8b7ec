// The catalogue: every control of this product, in the order in which reports show them. A row: identifier, title, severity, what enforces it,
// why it matters, how it is verified, references, the facts it needs, and the function that decides it (null until a version does).

#include <algorithm>
#include <array>

#include "families.hpp"
#include "live.hpp"

namespace promwarden {

namespace {

using enum Severity;
using enum Part;

// clang-format off: a row reads as its five or six lines.
constexpr auto controls = std::to_array<Control>({
    // ---- network ----
    {"network.listen-address", "Prometheus listens only where the policy says", critical, "unit drop-in",
     "Prometheus listens on every address unless told otherwise, and whoever reaches the port sees everything it knows. A flag in a file "
     "is only an intention: arguments can hide in an @file, so the sockets themselves have to agree with the flags and the unit.",
     "The listening sockets of the unit's control group, the flags the server reports, and the unit with its drop-ins.",
     "Prometheus documentation: Security model; sock_diag(7)", servers | live, &parts_of<&live_listen_address, &decide_listen_address>},
    {"network.packet-filter", "The live packet filter is exactly the policy's", critical, "ruleset",
     "A rule in a file filters nothing; only the kernel's ruleset does, and any root process can change it at any time. Filters that "
     "accept established connections first keep serving a source after its trust is withdrawn, so here every packet is judged.",
     "The table inet promwarden, read back from the kernel, compared rule by rule and element by element with what the policy means.",
     "nft(8); Prometheus documentation: Security model", filter, &decide_packet_filter},
    {"network.published-ports", "No container publishes a guarded port beyond the policy", critical, "ruleset, report",
     "A published container port is open on all addresses unless the publication names one, and it is opened behind the back of host "
     "firewalls that only filter input. A port published on 127.0.0.1 can still be reached by routing to the container's own address.",
     "Container configurations, proxy processes, NAT rules and listening sockets, each against the policy.",
     "Docker documentation: Packet filtering and firewalls", containers | servers, &decide_published_ports},
    {"network.container-path", "Forwarded and DNATed traffic to guarded ports is filtered too", critical, "ruleset",
     "Packets for a container are rewritten and forwarded, so they never pass the input hook: with an input rule that drops port 9090, as "
     "ufw writes it, a published Prometheus still answered every stranger. Traffic behind DNAT and behind container bridges must be "
     "judged where it is forwarded.",
     "The forward part of the live table, its chains and sets, against the policy's.",
     "nft(8), address families and hooks; Docker documentation: Packet filtering and firewalls", filter, &decide_container_path},
    {"network.companion-ports", "Companion services are guarded or declared open", high, "report",
     "Alertmanager, Pushgateway, exporters and Grafana stand beside Prometheus and are as talkative as it is; the gossip port of "
     "Alertmanager takes orders without a password. A closed 9090 next to an open 9093 is half a door.",
     "Listening sockets on the known ports, against the policy's services and open ports.",
     "Prometheus documentation: Security model; Prometheus wiki: Default port allocations", servers | containers, &decide_companion_ports},
    {"network.bypass", "Nothing moves packets around the filter", high, "report",
     "XDP programs, tc actions, netdev chains, flowtables and macvlan children handle packets before or beside the hooks where rules are "
     "evaluated, and redirects or rewrites change a packet after it was judged. Each of them reached a guarded port in measurements, so "
     "none may be there unnoticed.",
     "Links, queueing disciplines, sysctls and the rules of other tables, as the kernel reports them.",
     "nft(8); ip-link(8); tc(8); kernel documentation: ip-sysctl", filter | bypasses, &decide_bypass},

    // ---- access ----
    {"access.authentication", "Every route to Prometheus asks who is there", critical, "site, web.yml",
     "Prometheus itself authenticates nobody by default, on any endpoint. A password at the proxy protects only what cannot be reached "
     "around the proxy, and an empty web.yml is valid: it means no users and no TLS.",
     "The configuration of every route, and a live request of a stranger to each, which must be refused.",
     "RFC 9110 section 11; Prometheus documentation: HTTPS and authentication", servers | files | proxy | live, &parts_of<&live_authentication, &as_proxy_says<"access.authentication">>},
    {"access.local-users", "Over loopback only the policy's users reach the backend", high, "ruleset",
     "Binding to 127.0.0.1 is not authentication: the user nobody read the whole configuration of a Prometheus behind an authenticating "
     "proxy. The kernel knows which user sends a packet over loopback and can refuse all but the proxy's.",
     "The output part of the live table, its chains and sets, against the policy's.",
     "nft(8), meta skuid; Prometheus documentation: Security model", filter, &decide_local_users},
    {"access.roles", "The table of endpoints and roles is enforced", critical, "site",
     "Prometheus has no roles and no /admin path, so a rule that protects /admin protects nothing. Only an allow list of exact paths with "
     "a closed default separates a viewer from an administrator, and even then a query can return what the series endpoint would.",
     "The proxy's locations, and requests of each role to each endpoint.",
     "Prometheus documentation: HTTP API; nginx documentation: location", proxy | live, &as_proxy_says<"access.roles">},
    {"access.endpoint-coverage", "The endpoint table covers the running version", high, "site",
     "Each version brings endpoints: remote read exports everything in bulk, and later versions add parsing, notification and search "
     "endpoints. A path that the table does not know must fall to the administrators.",
     "The endpoints known for the running version, against the table.",
     "Prometheus documentation: HTTP API; Prometheus changelog", servers | proxy, &as_proxy_says<"access.endpoint-coverage">},
    {"access.password-hashes", "Passwords in web.yml are bcrypt of a sound cost", high, "report",
     "An invalid hash keeps Prometheus from starting. A cost below 10 is cheap to guess; a cost of 18 takes sixteen seconds of processor "
     "time for one login, which any stranger can ask for.",
     "The users of web.yml: form and cost of every hash, between 10 and 14.",
     "Prometheus documentation: HTTPS and authentication", files, &as_files_say<"access.password-hashes">},
    {"access.identity-provider", "The identity proxy's settings are safe", high, "report",
     "oauth2-proxy can be told to trust addresses, skip routes, admit any mail domain or not verify its issuer. One such line turns "
     "single sign-on into an open door that still shows a login page.",
     "The settings of oauth2-proxy, one by one.",
     "RFC 6749; OpenID Connect Core 1.0; oauth2-proxy documentation: Configuration", proxy, &as_proxy_says<"access.identity-provider">},
    {"access.mfa", "A second factor is demanded, or attested until a date", high, "report",
     "Whether a second factor was used is known to the identity provider, not to this host. What can be verified here is that a claim or "
     "a group that implies it is required; otherwise a person has to vouch for it, with a date.",
     "The required claim in the identity proxy's settings, or the policy's dated attestation.",
     "OpenID Connect Core 1.0, acr and amr; RFC 8176", proxy, &as_proxy_says<"access.mfa">},

    // ---- proxy ----
    {"proxy.tls-only", "The proxy speaks TLS only", high, "site",
     "Basic authentication sends the password with every request. On a plain listener that is a password for anyone on the way.",
     "The listeners of the proxy, and a plain request, which must be redirected or refused.",
     "RFC 7617 section 4; nginx documentation: ngx_http_ssl_module", proxy, &as_proxy_says<"proxy.tls-only">},
    {"proxy.literal-upstream", "The proxy names its backend by a literal address", high, "site",
     "The name localhost is two addresses. nginx alternates between them, and half of the requests, with passwords, went to [::1]:9090, "
     "which any local user may occupy while Prometheus holds only 127.0.0.1.",
     "Every proxy_pass and upstream that leads to Prometheus.",
     "nginx documentation: ngx_http_proxy_module, ngx_http_upstream_module", proxy, &as_proxy_says<"proxy.literal-upstream">},
    {"proxy.auth-request", "auth_request is wired to something that decides", high, "site",
     "Without a location for it, the subrequest goes to Prometheus, which answers 404, and every request fails. A wiring that is repaired "
     "in a hurry tends to fail open instead.",
     "The target of every auth_request: it exists, is internal, passes no body and leads to the identity proxy.",
     "nginx documentation: ngx_http_auth_request_module", proxy, &as_proxy_says<"proxy.auth-request">},
    {"proxy.no-bypass", "No proxied location switches authentication off", critical, "report",
     "A return in the same block runs before access is checked, satisfy any makes the password optional, and a nested location inherits "
     "nothing it overrides. With satisfy any and allow 127.0.0.1, half of all forbidden requests were answered.",
     "Every location that leads to Prometheus, with what it inherits.",
     "nginx documentation: ngx_http_core_module, satisfy; ngx_http_rewrite_module", proxy, &as_proxy_says<"proxy.no-bypass">},
    {"proxy.canonical-uri", "Decisions are made on the URI that is served", high, "site",
     "A rule on $request_uri sees the raw text, and %73eries is not series until it has been let through. Ambiguous targets have to be "
     "refused, and names of users in a map compared exactly, since maps ignore case.",
     "The variables that access rules look at, and requests in every spelling.",
     "RFC 3986 section 6; nginx documentation: ngx_http_map_module", proxy, &as_proxy_says<"proxy.canonical-uri">},
    {"proxy.credential-stripping", "Credentials end at the proxy", medium, "site",
     "nginx forwards the Authorization header, so the backend and whatever it logs see the user's password. Identity headers that are not "
     "overwritten can be sent by the client.",
     "The headers that each location sends to Prometheus.",
     "RFC 9110 section 11.6.2; nginx documentation: proxy_set_header", proxy, &as_proxy_says<"proxy.credential-stripping">},
    {"proxy.htpasswd", "The password file is sound", high, "site",
     "nginx computes the hash on every request inside its worker: plain text and SHA-1 are easy to break, while bcrypt at cost 12 holds "
     "the worker for a quarter of a second. Salted SHA-512 takes three milliseconds.",
     "Mode, owner, hashes and duplicates of every password file.",
     "nginx documentation: ngx_http_auth_basic_module; crypt(5)", proxy, &decide_proxy_passwords},

    // ---- tls ----
    {"tls.server", "Every listener that is not loopback speaks TLS", critical, "web.yml, site, drop-in",
     "The flags --web.tls-cert and --web.tls-key that guides name exist in no version: Prometheus refuses to start. TLS comes from "
     "web.yml, and an empty web.yml means none.",
     "web.yml, the proxy's site, and a handshake with every listener.",
     "RFC 8446; Prometheus documentation: HTTPS and authentication", servers | files | proxy | live, &parts_of<&live_tls_server, &decide_tls_server, &as_proxy_says<"tls.server">>},
    {"tls.protocol", "TLS 1.2 or newer with sound ciphers", high, "web.yml, site",
     "TLS 1.0 and 1.1 are deprecated; one old line in a configuration keeps them alive for whoever asks.",
     "The configured versions and ciphers, and handshakes that must fail.",
     "RFC 8996; RFC 9325", files | proxy | live, &parts_of<&as_files_say<"tls.protocol">, &live_tls_protocol, &as_proxy_says<"tls.protocol">>},
    {"tls.client-auth", "Client certificates are required and verified", high, "web.yml",
     "Of the five client_auth_type values only RequireAndVerifyClientCert authenticates: RequireAnyClientCert took a certificate of a "
     "foreign authority. Without client_ca_file even the right value trusts every public authority.",
     "web.yml, and requests without and with a foreign certificate. In TLS 1.3 the refusal comes after the handshake, so the answer is "
     "read as well.",
     "RFC 8446 section 4.4.2; Prometheus documentation: HTTPS and authentication", servers | files | certificates | live, &parts_of<&live_client_auth, &decide_client_auth, &decide_resumed_clients>},
    {"tls.scrape", "Scrapes verify their targets", high, "report with the exact edit",
     "A scrape over http, or with insecure_skip_verify, gives the job's credentials to whoever answers. The scheme can also be changed by "
     "relabelling, so the scrape URL is what counts. A client certificate without ca_file is read once, and a renewed one is not shown.",
     "Every scrape configuration with its client certificates, and the scrape URLs of live targets.",
     "Prometheus documentation: Configuration, tls_config; RFC 9525", files, &as_files_say<"tls.scrape">},
    {"tls.remote-write", "Remote write and read verify their peers", high, "report with the exact edit",
     "Remote write sends every sample to another host, often with credentials. Token endpoints of oauth2 have a TLS configuration of "
     "their own, easily forgotten.",
     "Every remote_write and remote_read block with its oauth2 part.",
     "Prometheus documentation: Configuration, remote_write; RFC 9525", files, &as_files_say<"tls.remote-write">},
    {"tls.other-clients", "Other outgoing connections verify their peers", medium, "report with the exact edit",
     "Alertmanagers, service discovery and tracing are clients too; a discovery that anyone can answer decides what is scraped and with "
     "which password.",
     "Alertmanager, discovery and tracing blocks, and the proxy's verification of its backend.",
     "Prometheus documentation: Configuration; nginx documentation: proxy_ssl_verify", files | proxy, &parts_of<&as_files_say<"tls.other-clients">, &as_proxy_says<"tls.other-clients">>},
    {"tls.files", "Certificates and keys fit, are current and are closed", high, "chmod, chgrp",
     "A key that others can read is everyone's identity, and a key that the service user cannot read stops every new handshake at once: "
     "modes must be judged from both sides. The server reads both files at each handshake, so a mismatch is an outage.",
     "Match of key and certificate, strict chain, names, expiry, modes, and readability for the service's user.",
     "RFC 5280; RFC 9525; openssl-verify(1)", files | certificates, &parts_of<&decide_tls_files, &tls_file_permissions>},
    {"tls.rotation", "Due certificates are renewed, and the new one is served", high, "rotation",
     "Writing the certificate and then the key breaks a fifth of the handshakes in between. A new pair in its own directory and one "
     "rename of web.yml broke none in thousands of rotations.",
     "Expiry against the renewal window, and the serial number that a handshake shows against the file.",
     "RFC 5280; RFC 9773; Prometheus documentation: HTTPS and authentication", certificates | live, &decide_tls_rotation},

    // ---- api ----
    {"api.admin", "The admin API is off", critical, "unit drop-in",
     "The admin API deletes series and writes snapshots for anyone who can post. The advised --web.enable-admin-api=false does not start; "
     "leaving the flag out is how it is off.",
     "The flags the server reports, and a request without effect that tells on from off.",
     "Prometheus documentation: TSDB Admin APIs", servers | live, &parts_of<&live_admin_api, &decide_admin>},
    {"api.lifecycle", "The lifecycle endpoints are off", high, "unit drop-in",
     "With it anyone who can post may stop or reload the server. A signal does the same for those who may send one.",
     "The flags the server reports; the endpoint itself has no harmless probe.",
     "Prometheus documentation: Management API", servers | live, &parts_of<&live_lifecycle, &decide_lifecycle>},
    {"api.receivers", "Write receivers are off unless allowed", high, "unit drop-in",
     "A remote-write or OTLP receiver lets whoever reaches it create any series, past and present, and so forge every alert.",
     "The flags and features the server reports, and an empty write, which must not be taken.",
     "Prometheus documentation: Remote write receiver; Feature flags", servers | live, &parts_of<&live_receivers, &decide_receivers>},
    {"api.cors", "Other sites cannot read the API through a browser", medium, "unit drop-in",
     "The default origin pattern is .*, so any page in the browser of someone who can reach Prometheus may read it, one on 127.0.0.1 "
     "included.",
     "The flag the server reports, and the header on an answer to a foreign origin.",
     "Fetch standard, CORS protocol; Prometheus documentation: Command line", servers | live, &parts_of<&live_cors, &decide_cors>},
    {"api.query-limits", "Query limits are not loosened", low, "unit drop-in",
     "Timeout, concurrency and sample limits are what stands between one careless query and a server out of memory.",
     "The flags the server reports, against the defaults of its version.",
     "Prometheus documentation: Command line", servers, &decide_query_limits},
    {"api.federation", "Federation is narrow, and closed to viewers", high, "report, site",
     "match[] limits what this server asks for; the /federate endpoint of the source still gives anything to anyone. A selector such as "
     "{__name__=~\".+\"} is the whole database.",
     "Selectors of federation jobs, and who may reach /federate.",
     "Prometheus documentation: Federation", files | proxy, &parts_of<&as_files_say<"api.federation">, &as_proxy_says<"api.federation">>},
    {"api.profiling", "Profiling endpoints are not reachable by viewers", medium, "site",
     "The profiling endpoints cannot be switched off. They show the command line and memory of the process, and a profile costs processor "
     "time for as long as the caller asks.",
     "Requests to /debug/pprof through the proxy.",
     "Go documentation: net/http/pprof; Prometheus documentation: Security model", proxy | live, &parts_of<&live_profiling, &as_proxy_says<"api.profiling">>},

    // ---- data ----
    {"data.encryption", "The database is encrypted at rest", medium, "report",
     "Prometheus encrypts nothing on disk. Encryption below it counts only if every device under the file system has it, and swap or "
     "snapshots on a plain disk undo it.",
     "The devices below the storage path down to the leaves, fscrypt attributes, and swap.",
     "cryptsetup(8); kernel documentation: fscrypt; Prometheus documentation: Storage", servers | files | storage, &decide_encryption},
    {"data.permissions", "The database directory is closed", medium, "chmod, drop-in",
     "The directory and its files are readable by everyone by default, among them queries.active, the text of the queries that run right "
     "now.",
     "Owner and mode of the storage directory, and the unit's UMask.",
     "systemd.exec(5), UMask; Prometheus documentation: Storage", servers | files, &decide_data_permissions},
    {"data.retention", "Data are kept as long as the policy says", low, "drop-in",
     "Data that are no longer needed are only a liability. The size needs its unit: 10G keeps the server from starting, 10GB does not.",
     "The retention the server reports, by time and by size.",
     "Prometheus documentation: Storage, operational aspects", servers | files, &parts_of<&retention_of_flags, &as_files_say<"data.retention">>},

    // ---- secrets ----
    {"secrets.inline", "No secret is written into the configuration", high, "migrate to *_file",
     "A password in prometheus.yml is in every copy, backup and repository of that file. The *_file twin of the key keeps it in one place "
     "with its own mode.",
     "Every secret key of the configuration on disk, and the <secret> marks in the running one.",
     "Prometheus documentation: Configuration", files, &as_files_say<"secrets.inline">},
    {"secrets.inline-key", "No private key is written into web.yml", medium, "migrate to *_file",
     "web.yml is edited and copied by people. A key belongs into a file that only the service reads.",
     "The key field of web.yml.",
     "Prometheus documentation: HTTPS and authentication", files, &as_files_say<"secrets.inline-key">},
    {"secrets.exposed-parameters", "No secret travels where the API shows it", high, "report",
     "Query strings, params, headers and user names are not treated as secrets: the configuration page shows them as they are, and the "
     "targets page repeats parameters in every URL.",
     "URLs, params, headers and endpoint_params of the configuration.",
     "Prometheus documentation: Security model, secrets", files, &as_files_say<"secrets.exposed-parameters">},
    {"secrets.redacted-literal", "No configuration carries the mark for a hidden secret", medium, "report",
     "A configuration copied from the status page holds the literal text <secret>, which is then sent as the password.",
     "Secret keys whose value is the mark.",
     "Prometheus documentation: HTTP API, config", files, &as_files_say<"secrets.redacted-literal">},
    {"secrets.dead-variables", "No variable waits for an expansion that never comes", high, "report",
     "Prometheus expands variables only in external labels. Anywhere else the text ${PASSWORD} itself goes out on the wire, and the real "
     "secret is nowhere.",
     "Strings of that form outside external labels, relabelling and templates.",
     "Prometheus documentation: Configuration, external_labels", files, &as_files_say<"secrets.dead-variables">},
    {"secrets.process", "No secret is in a command line or environment", high, "report",
     "Arguments are readable by every local user, and the environment of a unit by everyone who may ask the service manager.",
     "Command lines, unit and compose environments.",
     "proc(5); systemd.exec(5), Environment", servers | containers, &decide_process_secrets},
    {"secrets.file-permissions", "Secret files are closed to others and readable by the service", high, "chmod",
     "A secret file that others can read is not one. Closing it against the service's own user stops scrapes at the next reload, so both "
     "sides are judged.",
     "Owner, group and mode of every file that the configuration names.",
     "Prometheus documentation: Security model, secrets", files, &decide_secret_files},

    // ---- labels ----
    {"labels.redaction", "Sensitive labels are really dropped", medium, "report with the exact edit",
     "Relabelling patterns are anchored and case-sensitive: one that says password keeps db_password and Password. Values are not looked "
     "at at all.",
     "The relabelling rules, tried on the policy's words, and the live label names.",
     "Prometheus documentation: Configuration, metric_relabel_configs", files, &as_files_say<"labels.redaction">},
    {"labels.identity", "No rule drops what tells series apart", high, "report with the exact edit",
     "A labelkeep without le and the rest merges series silently: fourteen became six, histograms lost their buckets, and nothing "
     "reported an error.",
     "Every labelkeep and labeldrop, tried on the labels that are live.",
     "Prometheus documentation: Configuration, relabel_config", files, &as_files_say<"labels.identity">},

    // ---- audit ----
    {"audit.query-log", "Queries are recorded", medium, "config edit, drop-in",
     "The debug log holds no query at all. The query log does, though neither the user behind a proxy nor what came through /federate.",
     "query_log_file, the server's own metric that it is being written, and its --log.level.",
     "Prometheus documentation: Using the Prometheus query log", servers | files, &decide_query_log},
    {"audit.query-log-file", "The query log is closed and rotated", medium, "chmod, logrotate",
     "It is created readable by everyone and grows without end. Queries tell what is being watched and, at times, more.",
     "Owner and mode of the file, and that something rotates it.",
     "Prometheus documentation: Using the Prometheus query log; logrotate(8)", files, &decide_query_log_file},
    {"audit.proxy-log", "The proxy records who asked for what", medium, "site",
     "Only the proxy knows the user. A log_format named combined keeps nginx from starting, since that name is taken, and a format "
     "without escaping lets a client write log lines of its own.",
     "The access logs of every location that leads to Prometheus.",
     "nginx documentation: ngx_http_log_module", proxy, &as_proxy_says<"audit.proxy-log">},

    // ---- alerts ----
    {"alerts.query-rate", "An unusual rate of queries raises an alert", low, "rule file",
     "A rule that is not loaded alerts nobody, and a rate per series never adds up to the load of the server.",
     "The rules the server has loaded, their health, and that an Alertmanager hears them.",
     "Prometheus documentation: Alerting rules", files, &as_files_say<"alerts.query-rate">},
    {"alerts.auth-failures", "Refused logins raise an alert", medium, "rule file",
     "No stock exporter gives nginx's request count a status label, so the well-known rule can never fire; and refusals by web.yml are "
     "neither counted nor logged.",
     "The rule, and that the metric it names exists.",
     "Prometheus documentation: Alerting rules", files, &as_files_say<"alerts.auth-failures">},
    {"alerts.reload-failed", "A failed reload raises an alert", low, "rule file",
     "After a failed reload the server runs on with the old configuration, and everything looks well until the next restart.",
     "The rule, and that the metric it names exists.",
     "Prometheus documentation: Alerting rules", files, &as_files_say<"alerts.reload-failed">},

    // ---- config ----
    {"config.permissions", "Configuration files are closed to writers", high, "chmod, chgrp",
     "Whoever may write prometheus.yml, a rule file or a discovery file decides what Prometheus connects to and with which secrets.",
     "Owner and mode of every file that the configuration and the unit name, and of each directory above.",
     "Prometheus documentation: Security model", servers | files, &decide_config_permissions},
    {"config.drift", "What runs is what is on disk", medium, "report",
     "A file edited after the last reload shows a state that does not exist, until a restart makes it true at the worst moment.",
     "Time of the last reload against the files, and the command line against the unit.",
     "Prometheus documentation: Configuration", servers | files | live, &parts_of<&live_drift, &drift_of_servers>},
    {"config.startable", "The configuration would start", high, "refuse",
     "Prometheus reads some settings only when it starts. A flag of another version or a second copy of one is found out at the next "
     "boot, when nobody watches.",
     "Flags, configuration and web.yml against what the installed version accepts.",
     "Prometheus documentation: Command line; promtool", servers | files, &parts_of<&decide_startable, &startable_flags>},
    {"config.service-sandbox", "The service is confined", medium, "drop-in",
     "Prometheus needs its database, its configuration and the network. A unit that says so turns a hole in the server into a smaller one.",
     "The unit's user and its sandboxing settings as the service manager has them.",
     "systemd.exec(5); systemd-analyze(1), security", servers, &decide_service_sandbox},
    {"config.honor-labels", "honor_labels only where it must be", low, "report",
     "With honor_labels a target names itself, and so may pose as any other. Federation and the Pushgateway need it, nothing else does.",
     "Jobs that set it.",
     "Prometheus documentation: Configuration, scrape_config", files, &as_files_say<"config.honor-labels">},
    {"config.docker-socket", "The container engine's socket stays out of reach", medium, "report",
     "Read access to the engine's API is access to every environment variable of every container, and write access is root.",
     "Discovery blocks, exporters and units that name the socket.",
     "Docker documentation: Protect the Docker daemon socket", servers | files | containers, &parts_of<&as_files_say<"config.docker-socket">, &docker_socket_of_servers>},
    {"config.invalid", "No setting is misplaced or without effect", low, "report",
     "Settings with the wrong indentation or under the wrong key are refused at best, and at worst are valid and mean something else.",
     "The configuration against the schema of the installed version.",
     "Prometheus documentation: Configuration", files, &as_files_say<"config.invalid">},

    // ---- version ----
    {"version.vulnerable", "The installed version has no known hole", high, "report",
     "Basic authentication could be passed before 2.40.4, and later versions had holes of their own. Distributions repair holes without "
     "raising the upstream number, so the package's version is compared, not the program's.",
     "The package's version and origin, or the program's own where it was not packaged.",
     "Prometheus changelog; CVE-2022-46146; CVE-2021-29622", servers, &decide_vulnerable},
});
// clang-format on

}  // namespace

std::span<const Control> catalogue() { return controls; }

const Control* find_control(std::string_view id) {
    const auto found = std::ranges::find(controls, id, &Control::id);
    return found == controls.end() ? nullptr : &*found;
}

Part needs_of(std::span<const std::string> only) {
    Part all{};
    for (const auto& control : controls)
        if (control.decide != nullptr && (only.empty() || std::ranges::find(only, control.id) != only.end())) all = all | control.needs;
    // What lies below a path is asked of the paths that a configuration names, and that configuration is a server's.
    if (includes(all, storage)) all = all | files;
    if (includes(all, files)) all = all | servers;
    return all;
}

}  // namespace promwarden
