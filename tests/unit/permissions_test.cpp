#include <doctest/doctest.h>

#include "promwarden/controls.hpp"
#include "verdicts.hpp"

using namespace promwarden;

namespace {

using Type = FileStatus::Type;
using Use = NamedFile::Use;

constexpr Identity service{105, 108, {}};
constexpr Identity stranger{1000, 1000, {}};

FileStatus status(Type type, mode_t mode, uid_t owner = 0, gid_t group = 0) {
    FileStatus made;
    made.type = type;
    made.mode = mode;
    made.owner = owner;
    made.group = group;
    return made;
}

/// "/etc/prometheus/FILE" below directories that only root can change.
NamedFile file(Use use, FileStatus of, FileStatus directory = status(Type::directory, 0755)) {
    NamedFile made;
    made.use = use;
    made.path = made.written = "/etc/prometheus/f";
    made.named = {"/etc/prometheus/prometheus.yml", 7, 20, "scrape_configs[0].basic_auth.password_file"};
    made.steps = {{"/", status(Type::directory, 0755), -1}, {"/etc", status(Type::directory, 0755), 0}, {"/etc/prometheus", std::move(directory), 1}, {made.path, std::move(of), 2}};
    return made;
}

NamedFile regular(Use use, mode_t mode, uid_t owner = 0, gid_t group = 0) { return file(use, status(Type::regular, mode, owner, group)); }

NamedFile missing(Use use, FileStatus directory = status(Type::directory, 0755)) {
    auto made = file(use, {}, std::move(directory));
    made.steps.pop_back();
    made.problem = Error{Code::missing, ENOENT, "open", made.path, ""};
    return made;
}

NamedFile with_text(NamedFile made, std::string text) {
    made.text = std::make_shared<const std::string>(std::move(text));
    return made;
}

const AccountTable accounts = parse_accounts(
    "root:x:0:0:root:/root:/bin/bash\nprometheus:x:105:108::/var/lib/prometheus:/usr/sbin/nologin\nalice:x:1000:1000::/home/alice:/bin/bash\n"
    "bob:x:1001:1001::/home/bob:/bin/bash\nbroken line\n:x:5:5\nshort:x:1\n",
    "root:x:0:\nprometheus:x:108:bob\nadm:x:4:alice\nalice:x:1000:\nnobodys:x:77:\n");

Facts host(std::vector<NamedFile> files) {
    Facts facts;
    facts.files->accounts = accounts;
    ServerFiles server;
    server.server = "prometheus.service";
    server.version = "2.42.0";
    server.identity = service;
    server.files = std::move(files);
    facts.files->servers.push_back(std::move(server));
    return facts;
}

Decision decide(std::string_view id, const Facts& facts, const Policy& policy = {}) { return noted(id, find_control(id)->decide(policy, facts)); }

struct Case {
    Verdict verdict;
    NamedFile file;
    std::string_view observed = {};  // of the first finding
    std::string_view remedy = {};
};

void check(std::string_view id, std::span<const Case> cases) {
    for (std::size_t i = 0; i < cases.size(); ++i) {
        CAPTURE(id);
        CAPTURE(i);
        const auto decision = decide(id, host({cases[i].file}));
        CAPTURE(decision.reason);
        CHECK(to_text(decision.verdict) == to_text(cases[i].verdict));
        CHECK((decision.verdict == Verdict::fail) == !decision.findings.empty());
        if (!cases[i].observed.empty() && !decision.findings.empty()) CHECK(decision.findings.front().observed == cases[i].observed);
        if (!cases[i].remedy.empty() && !decision.findings.empty()) CHECK(decision.findings.front().remedy.summary == cases[i].remedy);
    }
}

constexpr auto pass = Verdict::pass, failed = Verdict::fail, undecided = Verdict::unknown, none = Verdict::not_applicable;

std::vector<AclEntry> acl(std::uint8_t named_user_rights, std::uint32_t user, std::uint8_t mask, std::uint8_t group = 4) {
    using Tag = AclEntry::Tag;
    return {{Tag::owner, 0, 6}, {Tag::user, user, named_user_rights}, {Tag::owning_group, 0, group}, {Tag::mask, 0, mask}, {Tag::other, 0, 0}};
}

}  // namespace

// ---- the kernel's rules ---------------------------------------------------------------------------------------------

TEST_CASE("classes of the mode: the first that matches decides, even where a later one would give more") {
    CHECK(may(service, status(Type::regular, 0640, 0, 108), Right::read));
    CHECK_FALSE(may(service, status(Type::regular, 0640, 0, 108), Right::write));
    CHECK_FALSE(may(stranger, status(Type::regular, 0640, 0, 108), Right::read));
    CHECK_FALSE(may(service, status(Type::regular, 0044, 105, 108), Right::read));   // the owner's bits say no
    CHECK_FALSE(may(service, status(Type::regular, 0604, 0, 108), Right::read));     // so do the group's
    CHECK(may({0, 0, {}}, status(Type::regular, 0000), Right::write));
    CHECK(may({1000, 1000, {108}}, status(Type::regular, 0040, 0, 108), Right::read));
}

TEST_CASE("access lists: named entries count up to the mask, the owner and others beside it") {
    auto of = status(Type::regular, 0640);
    of.acl = acl(6, 1000, 4);
    CHECK(may(stranger, of, Right::read));
    CHECK_FALSE(may(stranger, of, Right::write));  // masked
    CHECK_FALSE(may(service, of, Right::read));
    of.acl = {{AclEntry::Tag::owner, 0, 6}, {AclEntry::Tag::owning_group, 0, 0}, {AclEntry::Tag::group, 108, 4}, {AclEntry::Tag::group, 77, 2}, {AclEntry::Tag::mask, 0, 6}, {AclEntry::Tag::other, 0, 7}};
    CHECK(may(service, of, Right::read));
    CHECK_FALSE(may(service, of, Right::write));  // a group matches, so others do not count
    CHECK(may({9, 108, {77}}, of, Right::write));
    of = status(Type::regular, 0604);  // a mask without rights: the kernel looks at owner, group and others alone
    of.acl = acl(6, 1000, 0);
    CHECK(may(stranger, of, Right::read));
    CHECK_FALSE(may(stranger, of, Right::write));
}

TEST_CASE("the extended attribute of an access list") {
    using namespace std::string_view_literals;
    const auto bytes = "\x02\0\0\0" "\x01\0\x06\0\xff\xff\xff\xff" "\x02\0\x04\0\xe8\x03\0\0" "\x04\0\0\0\xff\xff\xff\xff" "\x10\0\x04\0\xff\xff\xff\xff" "\x20\0\0\0\xff\xff\xff\xff"sv;
    const auto parsed = parse_acl(bytes);
    REQUIRE(parsed.has_value());
    CHECK(*parsed == std::vector<AclEntry>{{AclEntry::Tag::owner, 0, 6}, {AclEntry::Tag::user, 1000, 4}, {AclEntry::Tag::owning_group, 0, 0}, {AclEntry::Tag::mask, 0, 4}, {AclEntry::Tag::other, 0, 0}});
    CHECK_FALSE(parse_acl("").has_value());
    CHECK_FALSE(parse_acl(bytes.substr(0, 9)).has_value());
    CHECK_FALSE(parse_acl("\x03\0\0\0"sv).has_value());
    CHECK_FALSE(parse_acl("\x02\0\0\0\x40\0\x06\0\0\0\0\0"sv).has_value());
}

TEST_CASE("directories on the way: search to pass, write to replace, the sticky bit") {
    CHECK(can_read(stranger, regular(Use::secret, 0644)));
    CHECK_FALSE(can_read(stranger, file(Use::secret, status(Type::regular, 0644), status(Type::directory, 0750, 0, 108))));
    CHECK(can_read(service, file(Use::secret, status(Type::regular, 0644), status(Type::directory, 0750, 0, 108))));
    CHECK_FALSE(can_replace(stranger, regular(Use::rules, 0644)));
    CHECK(can_replace(stranger, file(Use::rules, status(Type::regular, 0644), status(Type::directory, 0777))));
    CHECK_FALSE(can_replace(stranger, file(Use::rules, status(Type::regular, 0644), status(Type::directory, 01777))));
    CHECK(can_replace(stranger, file(Use::rules, status(Type::regular, 0644, 1000), status(Type::directory, 01777))));  // its own file in it
    CHECK(can_replace(stranger, file(Use::rules, status(Type::regular, 0644), status(Type::directory, 0500, 1000))));   // its own directory: the mode is its to change
    CHECK(can_write(stranger, regular(Use::rules, 0444, 1000)));
    CHECK_FALSE(can_write(stranger, regular(Use::rules, 0464, 0, 108)));
    CHECK(can_create(service, missing(Use::output, status(Type::directory, 0755, 105))));
    CHECK_FALSE(can_create(service, missing(Use::output)));
    CHECK_FALSE(can_create(service, regular(Use::output, 0666)));
}

TEST_CASE("who can: everyone, accounts with all their groups, numbers without an account") {
    const auto who = [](const NamedFile& of) { return to_text(who_can(can_write, of, accounts), accounts); };
    CHECK(who(regular(Use::rules, 0644)) == "");
    CHECK(who(regular(Use::rules, 0666)) == "everyone");
    CHECK(who(regular(Use::rules, 0664, 0, 108)) == "users prometheus and bob");
    CHECK(who(regular(Use::rules, 0664, 0, 4)) == "user alice");
    CHECK(who(regular(Use::rules, 0664)) == "");  // group root: nobody but root is in it
    CHECK(who(regular(Use::rules, 0664, 0, 77)) == "group nobodys");
    CHECK(who(regular(Use::rules, 0644, 4242, 4343)) == "uid 4242");
    CHECK(who(file(Use::rules, status(Type::regular, 0664, 0, 4), status(Type::directory, 0750, 0, 108))) == "");  // alice does not get there
    CHECK(accounts.users.size() == 4);
}

// ---- the controls, every verdict ------------------------------------------------------------------------------------

TEST_CASE("secrets.file-permissions") {
    auto listed = regular(Use::secret, 0640, 0, 108);
    listed.steps.back().status.acl = acl(4, 1000, 4);
    auto unreadable = missing(Use::secret);
    unreadable.problem = Error{Code::denied, EACCES, "open", "/etc/prometheus/f", ""};
    const Case cases[] = {
        {pass, regular(Use::secret, 0640, 0, 108)},
        {pass, regular(Use::secret, 0400, 105, 108)},
        {pass, file(Use::secret, status(Type::regular, 0644), status(Type::directory, 0750, 0, 108))},  // open in a closed directory
        {failed, regular(Use::secret, 0644, 0, 108), "0644 root:prometheus: everyone can read it", "chmod 0640 /etc/prometheus/f"},
        {failed, regular(Use::secret, 0644), "0644 root:root: everyone can read it", "chown root:prometheus /etc/prometheus/f && chmod 0640 /etc/prometheus/f"},
        {failed, regular(Use::secret, 0600), "0600 root:root: prometheus cannot read it", "chgrp prometheus /etc/prometheus/f && chmod g+r /etc/prometheus/f"},
        {failed, regular(Use::secret, 0640, 1000, 108), "0640 alice:prometheus: user alice can read it"},
        {failed, listed, "0640 root:prometheus with an access list: user alice can read it"},
        {failed, file(Use::secret, status(Type::regular, 0640, 0, 108), status(Type::directory, 0777)),
         "0777 root:root: everyone can put another file in the place of /etc/prometheus/f", "chmod g-w,o-w /etc/prometheus"},
        {failed, file(Use::secret, status(Type::regular, 0640, 0, 108), status(Type::directory, 0700)), "/etc/prometheus is 0700 root:root: prometheus cannot read it"},
        {failed, missing(Use::secret), "missing: what needs it fails at every request"},
        {undecided, unreadable},
        {none, regular(Use::rules, 0666)},
    };
    check("secrets.file-permissions", cases);
    const auto decision = decide("secrets.file-permissions", host({regular(Use::secret, 0644, 0, 108)}));
    REQUIRE(decision.findings.size() == 1);
    CHECK(decision.findings[0].location->file == "/etc/prometheus/prometheus.yml");
    CHECK(decision.findings[0].location->line == 7);
    CHECK(decision.findings[0].location->path == "scrape_configs[0].basic_auth.password_file");
    Facts broken;
    broken.files = std::unexpected(Error{Code::denied, EACCES, "open", "/", ""});
    CHECK(decide("secrets.file-permissions", broken).verdict == undecided);
    CHECK(decide("secrets.file-permissions", Facts{}).verdict == none);
}

TEST_CASE("secrets.file-permissions: the hashes of web.yml") {
    const auto hash = "basic_auth_users: {a: $2y$12$abcdefghijklmnopqrstuuNG3A4bH9pP1cXk4OEXBxJXRC0k7rfZm}\n";
    CHECK(decide("secrets.file-permissions", host({with_text(regular(Use::web, 0644, 0, 108), hash)})).verdict == failed);
    CHECK(decide("secrets.file-permissions", host({with_text(regular(Use::web, 0640, 0, 108), hash)})).verdict == pass);
    CHECK(decide("secrets.file-permissions", host({with_text(regular(Use::web, 0644), "tls_server_config: {cert_file: a, key_file: b}\n")})).verdict == none);
}

TEST_CASE("config.permissions") {
    const Case cases[] = {
        {pass, regular(Use::configuration, 0644)},
        {pass, regular(Use::rules, 0664)},  // group root has no member
        {failed, regular(Use::configuration, 0646), "0646 root:root: everyone can write it", "chmod g-w,o-w /etc/prometheus/f"},
        {failed, regular(Use::rules, 0664, 0, 4), "0664 root:adm: user alice can write it", "chmod g-w /etc/prometheus/f"},
        {failed, regular(Use::web, 0640, 105, 108), "0640 prometheus:prometheus: user prometheus can write it", "chown root /etc/prometheus/f && chmod g-w,o-w /etc/prometheus/f"},
        {failed, file(Use::targets, status(Type::regular, 0644), status(Type::directory, 0755, 1000)), "0755 alice:root: user alice can put another file in the place of /etc/prometheus/f"},
        {failed, missing(Use::rules, status(Type::directory, 0777)), "0777 root:root: everyone can put another file in the place of /etc/prometheus/f"},
        {none, regular(Use::secret, 0666)},
    };
    check("config.permissions", cases);
    auto unseen = regular(Use::configuration, 0644);
    unseen.problem = Error{Code::untrusted, 0, "look at", "/etc/prometheus/f", "it is on nfs4, which can hang its reader"};
    CHECK(decide("config.permissions", host({unseen})).verdict == undecided);
}

TEST_CASE("config.permissions: one finding for a directory, however many files are in it") {
    std::vector<NamedFile> many;
    for (int i = 0; i < 5; ++i) {
        auto one = file(Use::rules, status(Type::regular, 0644), status(Type::directory, 0775, 0, 4));
        one.path += std::to_string(i);
        many.push_back(std::move(one));
    }
    const auto decision = decide("config.permissions", host(many));
    REQUIRE(decision.findings.size() == 1);
    CHECK(decision.findings[0].subject == "/etc/prometheus");
    CHECK(decision.findings[0].remedy.summary == "chmod g-w /etc/prometheus");
}

TEST_CASE("config.permissions: a rule of the policy names who else may") {
    Policy policy;
    policy.files.resize(1);
    policy.files[0].path = "/etc/prometheus/f";
    policy.files[0].owner = Account{"alice", 1000};
    policy.files[0].mode = 0644;
    auto facts = host({regular(Use::targets, 0644, 1000)});
    facts.files->ruled.push_back({0, regular(Use::targets, 0644, 1000)});
    CHECK(decide("config.permissions", facts, policy).verdict == pass);
    facts.files->ruled[0].file = regular(Use::targets, 0664, 0);
    facts.files->servers[0].files[0] = regular(Use::targets, 0664, 0);
    const auto wrong = decide("config.permissions", facts, policy);
    REQUIRE(wrong.findings.size() == 1);
    CHECK(wrong.findings[0].observed == "owner root, mode 0664");
    CHECK(wrong.findings[0].remedy.summary == "chown alice /etc/prometheus/f && chmod 0644 /etc/prometheus/f");
    policy.files[0].group_name = "not-here";
    CHECK(decide("config.permissions", facts, policy).verdict == pass);  // a rule whose group does not exist is about another host
}

TEST_CASE("[[file]]: a closed file that no configuration names counts among the secrets, a directory does not") {
    Policy policy;
    policy.files.resize(1);
    policy.files[0].path = "/etc/prometheus/f";
    policy.files[0].mode = 0640;
    auto facts = host({});
    facts.files->ruled.push_back({0, regular(Use::configuration, 0644)});
    CHECK(decide("secrets.file-permissions", facts, policy).verdict == failed);
    CHECK(decide("config.permissions", facts, policy).verdict == none);
    facts.files->ruled[0].file = file(Use::configuration, status(Type::directory, 0755));
    CHECK(decide("secrets.file-permissions", facts, policy).verdict == none);
    CHECK(decide("config.permissions", facts, policy).verdict == failed);
}

TEST_CASE("data.permissions") {
    const auto directory = [](mode_t mode, FileStatus above = status(Type::directory, 0755)) { return file(Use::storage, status(Type::directory, mode, 105, 108), std::move(above)); };
    const Case cases[] = {
        {pass, directory(0750)},
        {pass, directory(0755, status(Type::directory, 0750, 105, 108))},  // closed one level higher
        {failed, directory(0755), "0755 prometheus:prometheus: everyone can read it", "chmod 0750 /etc/prometheus/f; UMask=0027 in the unit keeps new files closed, too"},
        {failed, directory(0711), "0711 prometheus:prometheus: everyone can read it"},  // names are known: queries.active
        {failed, file(Use::storage, status(Type::directory, 0770, 105, 4)), "0770 prometheus:adm: user alice can read it"},
        {none, missing(Use::storage)},
        {none, regular(Use::rules, 0666)},
    };
    check("data.permissions", cases);
    auto unseen = directory(0750);
    unseen.problem = Error{Code::untrusted, 0, "look at", "/etc/prometheus/f", "it is on nfs4, which can hang its reader"};
    CHECK(decide("data.permissions", host({unseen})).verdict == undecided);
}

namespace {

NamedFile remote(NamedFile made) {
    made.named.path = "remote_write[0].tls_config.ca_file";
    return made;
}

}  // namespace

TEST_CASE("tls.files: closed keys that the service can read; a certificate is public") {
    const Case cases[] = {
        {pass, regular(Use::key, 0640, 0, 108)},
        {pass, regular(Use::certificate, 0644)},
        {failed, regular(Use::key, 0600), "0600 root:root: prometheus cannot read it"},
        {failed, regular(Use::key, 0644), "0644 root:root: everyone can read it"},
        {failed, regular(Use::authority, 0666), "0666 root:root: everyone can write it"},
        {failed, missing(Use::authority), "missing: this job is never scraped"},
        {none, remote(missing(Use::key))},  // config.startable says so
        {none, regular(Use::rules, 0666)},
    };
    check("tls.files", cases);
}

TEST_CASE("config.startable: what is missing at the start") {
    const auto config = with_text(regular(Use::configuration, 0644), "scrape_configs: []\n");
    CHECK(decide("config.startable", host({config})).verdict == pass);
    for (const auto use : {Use::web, Use::authority, Use::certificate, Use::key}) CHECK(decide("config.startable", host({config, remote(missing(use))})).verdict == failed);
    CHECK(decide("config.startable", host({config, missing(Use::authority)})).verdict == pass);  // of a job, which is left out
    for (const auto use : {Use::targets, Use::secret}) CHECK(decide("config.startable", host({config, missing(use)})).verdict != failed);
    CHECK(decide("config.startable", host({missing(Use::configuration)})).verdict == failed);
    const auto closed = decide("config.startable", host({with_text(regular(Use::configuration, 0600), "scrape_configs: []\n")}));
    REQUIRE(closed.verdict == failed);
    CHECK(closed.findings[0].observed == "0600 root:root: prometheus cannot read it");
    CHECK(decide("config.startable", host({with_text(regular(Use::configuration, 0644), "nonsense_key: 1\n")})).verdict == failed);
    CHECK(decide("config.startable", Facts{}).verdict == none);
}

TEST_CASE("config.startable: by the server's own version") {
    const auto text = "scrape_configs: [{job_name: a, scrape_classic_histograms: true}]\n";  // 2.45 to 2.55
    auto facts = host({with_text(regular(Use::configuration, 0644), text)});
    CHECK(decide("config.startable", facts).verdict == failed);
    facts.files->servers[0].version = "2.53.1";
    CHECK(decide("config.startable", facts).verdict == pass);
    facts.files->servers[0].version = "3.1.0";
    CHECK(decide("config.startable", facts).verdict == failed);
    facts.files->servers[0].version = "";
    CHECK(decide("config.startable", facts).verdict == pass);
}

// ---- data.encryption ------------------------------------------------------------------------------------------------

TEST_CASE("data.encryption") {
    Policy policy;
    policy.data.encryption_required = true;
    Facts facts;
    const auto verdict = [&] { return decide("data.encryption", facts, policy).verdict; };
    CHECK(verdict() == none);  // no database here
    facts.storage->paths.push_back({"/var/lib/prometheus", "prometheus.service", "ext4", "/dev/sda2", "", {{"sda2", ""}}, {}});
    CHECK(verdict() == failed);
    facts.storage->paths[0].leaves = {{"sda2", "dm-0 (CRYPT-LUKS2)"}};
    CHECK(verdict() == pass);
    facts.storage->paths[0].leaves.push_back({"sdb2", ""});  // half of it is not
    CHECK(verdict() == failed);
    facts.storage->paths[0].leaves.pop_back();
    facts.storage->swaps.push_back({"/dev/sda3", {{"sda3", ""}}, false, {}});
    const auto swap = decide("data.encryption", facts, policy);
    REQUIRE(swap.findings.size() == 1);
    CHECK(swap.findings[0].subject == "/dev/sda3");
    facts.storage->swaps[0].volatile_memory = true;  // zram
    CHECK(verdict() == pass);
    facts.storage->null_cipher = true;  // then dm-crypt alone proves nothing
    CHECK(verdict() == undecided);
    CHECK(decide("data.encryption", facts, policy).reason.contains("cipher_null"));
    facts.storage->paths[0].leaves = {{"sda2", "fscrypt"}};  // which has no such cipher
    CHECK(verdict() == pass);
    facts.storage->swaps.push_back({"/dev/dm-1", {{"sda3", "dm-1 (CRYPT-PLAIN)"}}, false, {}});
    CHECK(verdict() == undecided);
    facts.storage->null_cipher = false;
    CHECK(verdict() == pass);
    facts.storage->paths[0].problem = Error{Code::unsupported, 0, "look below", "/var/lib/prometheus", "it is on another host"};
    CHECK(verdict() == undecided);
    facts.root = "/mnt";
    CHECK(verdict() == none);
    facts.root.clear();
    policy.data.encryption_required = false;
    CHECK(verdict() == none);
    policy.data.encryption_required = true;
    facts.storage = std::unexpected(Error{Code::denied, EACCES, "open", "/sys", ""});
    CHECK(verdict() == undecided);
}

// ---- audit ----------------------------------------------------------------------------------------------------------

namespace {

NamedFile query_log(NamedFile made) {
    made.path = "/var/log/prometheus/query.log";
    made.named.path = "global.query_log_file";
    return made;
}

}  // namespace

TEST_CASE("audit.query-log: set, as the policy says, and writable by the service") {
    const auto config = [](const char* text) { return with_text(regular(Use::configuration, 0644), text); };
    const auto set = config("global: {query_log_file: /var/log/prometheus/query.log}\n");
    auto log = query_log(regular(Use::output, 0640, 105, 108));
    CHECK(decide("audit.query-log", host({set, log})).verdict == pass);
    CHECK(decide("audit.query-log", host({set, query_log(missing(Use::output, status(Type::directory, 0750, 105, 108)))})).verdict == pass);
    const auto closed = decide("audit.query-log", host({set, query_log(missing(Use::output))}));
    CHECK(closed.verdict == failed);
    const auto absent = decide("audit.query-log", host({config("\nglobal:\n  scrape_interval: 15s\n")}));
    REQUIRE(absent.findings.size() == 1);
    CHECK(absent.findings[0].location->line == 2);
    CHECK(absent.findings[0].remedy.summary == "add `  query_log_file: /var/log/prometheus/query.log` below `global:` (line 2)");
    auto fragment = config("scrape_configs: []\n");
    fragment.path = "/etc/prometheus/jobs/a.yml";
    fragment.use = Use::scrape_configs;
    CHECK(decide("audit.query-log", host({set, fragment, log})).verdict == pass);  // it is set once, in the main file
    CHECK(decide("audit.query-log", Facts{}).verdict == none);
    Policy policy;
    policy.query_log = "/srv/q.log";
    CHECK(decide("audit.query-log", host({set, log}), policy).verdict == failed);
}

TEST_CASE("audit.query-log-file") {
    const auto rotated = [](NamedFile log, bool reopens = true) {
        auto facts = host({std::move(log)});
        facts.files->rotations.push_back({{"/var/log/prometheus/*.log"}, {"/etc/logrotate.d/prometheus", 1, 1, ""}, reopens});
        return facts;
    };
    CHECK(decide("audit.query-log-file", rotated(query_log(regular(Use::output, 0640, 105, 108)))).verdict == pass);
    CHECK(decide("audit.query-log-file", rotated(query_log(regular(Use::output, 0640, 105, 4)))).verdict == pass);  // adm reads logs
    const auto open = decide("audit.query-log-file", rotated(query_log(regular(Use::output, 0644, 105, 108))));
    REQUIRE(open.findings.size() == 1);
    CHECK(open.findings[0].observed == "0644: everyone can read it");
    const auto silent = decide("audit.query-log-file", rotated(query_log(regular(Use::output, 0640, 105, 108)), false));
    REQUIRE(silent.findings.size() == 1);
    CHECK(silent.findings[0].location->file == "/etc/logrotate.d/prometheus");
    CHECK(decide("audit.query-log-file", host({query_log(regular(Use::output, 0640, 105, 108))})).findings.at(0).observed == "nothing rotates it: it grows without end");
    CHECK(decide("audit.query-log-file", host({query_log(file(Use::output, status(Type::other, 0666)))})).verdict == pass);  // /dev/stdout
    CHECK(decide("audit.query-log-file", host({})).verdict == none);
    auto unseen = query_log(regular(Use::output, 0640));
    unseen.problem = Error{Code::untrusted, 0, "look at", "/x", "fuse"};
    CHECK(decide("audit.query-log-file", host({unseen})).verdict == undecided);
}

// ---- alerts and labels over a whole configuration -------------------------------------------------------------------

namespace {

constexpr const char* whole =
    "scrape_configs:\n- job_name: prometheus\n  static_configs: [{targets: ['localhost:9090']}]\nrule_files: [r.yml]\n"
    "alerting: {alertmanagers: [{static_configs: [{targets: ['localhost:9093']}]}]}\n";
constexpr const char* rules =
    "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: sum(rate(prometheus_http_requests_total{handler=~\"/api/v1/query\"}[5m])) > 100\n"
    "  - alert: B\n    expr: prometheus_config_last_reload_successful == 0\n  - alert: C\n    expr: increase(promwarden_proxy_auth_failures_total[5m]) > 10\n";

Facts configured(const std::string& main, const std::string& rule_file) {
    auto rule = with_text(regular(Use::rules, 0644), rule_file);
    rule.path = "/etc/prometheus/r.yml";
    return host({with_text(regular(Use::configuration, 0644), main), rule});
}

std::string without(std::string text, std::string_view part) {
    const auto at = text.find(part);
    REQUIRE(at != std::string::npos);
    return text.erase(at, part.size());
}

}  // namespace

TEST_CASE("alerts: loaded, about metrics that are here, and heard") {
    Policy policy;
    policy.access.present = true;
    const std::string_view ids[] = {"alerts.query-rate", "alerts.auth-failures", "alerts.reload-failed"};
    for (const auto id : ids) CHECK(decide(id, configured(whole, rules), policy).verdict == pass);
    for (const auto id : ids) {
        const auto nothing = decide(id, configured(whole, "groups: []\n"), policy);
        REQUIRE(nothing.findings.size() == 1);
        CHECK(nothing.findings[0].location->path == "rule_files");
        CHECK(nothing.findings[0].location->line == 4);
    }
    const auto no_self = without(whole, "  static_configs: [{targets: ['localhost:9090']}]\n");
    CHECK(decide("alerts.query-rate", configured(no_self, rules), policy).verdict == failed);
    CHECK(decide("alerts.reload-failed", configured(no_self, rules), policy).verdict == failed);
    CHECK(decide("alerts.auth-failures", configured(no_self, rules), policy).verdict == pass);
    const auto discovered = "scrape_configs: [{job_name: a, file_sd_configs: [{files: [t.json]}]}]\nalerting: {alertmanagers: [{}]}\n";
    CHECK(decide("alerts.reload-failed", configured(discovered, rules), policy).verdict == pass);  // discovery may find it
    const auto deaf = without(whole, "alerting: {alertmanagers: [{static_configs: [{targets: ['localhost:9093']}]}]}\n");
    CHECK(decide("alerts.query-rate", configured(deaf, rules), policy).verdict == failed);
    CHECK(decide("alerts.reload-failed", configured(deaf, rules), policy).verdict == pass);  // said once
    CHECK(decide("alerts.auth-failures", configured(whole, "groups: []\n")).verdict == none);  // no proxy, nothing to count
}

TEST_CASE("alerts: the server listens elsewhere") {
    Policy policy;
    policy.prometheus.listen = {Endpoint{parse_address("127.0.0.1").value(), 9999}};
    CHECK(decide("alerts.reload-failed", configured(whole, rules), policy).verdict == failed);
}

TEST_CASE("labels.redaction: the policy's list, job by job") {
    Policy policy;
    policy.redact_labels = {"password", "api_key"};
    const auto job = [](const std::string& rest) { return configured("scrape_configs:\n- job_name: a\n" + rest, "groups: []\n"); };
    const auto verdict = [&](const std::string& rest) { return decide("labels.redaction", job(rest), policy).verdict; };
    const auto bare = decide("labels.redaction", job(""), policy);
    REQUIRE(bare.findings.size() == 1);
    CHECK(bare.findings[0].remedy.summary == "add below `metric_relabel_configs:` of this job: - {action: labeldrop, regex: '(?i).*(password|api_key).*'}");
    CHECK(verdict("  metric_relabel_configs: [{action: labeldrop, regex: '(?i).*(password|api_key).*'}]\n") == pass);
    CHECK(verdict("  metric_relabel_configs: [{action: labeldrop, regex: 'password|api_key'}]\n") == failed);  // anchored and case-sensitive
    CHECK(verdict("  metric_relabel_configs: [{action: labeldrop, regex: '(?i).*password.*'}, {action: labeldrop, regex: '(?i).*api_key.*'}]\n") == pass);  // together
    CHECK(verdict("  relabel_configs: [{action: labeldrop, regex: '(?i).*(password|api_key).*'}]\n") == failed);  // of targets, not of samples
    policy.redact_labels.clear();
    CHECK(verdict("") == none);
}

// ---- TLS of the server itself, retention ----------------------------------------------------------------------------

TEST_CASE("tls.server: what web.yml says matters where strangers hear the server") {
    const auto web = [](const char* text) { return with_text(regular(Use::web, 0640, 0, 108), text); };
    const auto secure = web("tls_server_config: {cert_file: a, key_file: b}\n"), open = web("{}\n"), broken = web("tls_server_config: {cert_file: a}\n");
    const auto with = [](std::vector<NamedFile> files, const char* address, bool running = true) {
        auto facts = host(std::move(files));
        Server server;
        server.kind = Server::Kind::unit;
        server.name = "prometheus.service";
        if (running) {
            server.process = Process{};
            server.listeners.resize(1);
            server.listeners[0].endpoint = {parse_address(address).value(), 9090};
        } else if (*address != 0) {
            server.configured->flags.resize(1);
            server.configured->flags[0].name = "web.listen-address";
            server.configured->flags[0].value = address;
        }
        facts.servers->push_back(std::move(server));
        return facts;
    };
    CHECK(decide("tls.server", with({secure}, "0.0.0.0")).verdict == pass);
    CHECK(decide("tls.server", with({}, "127.0.0.1")).verdict == pass);
    CHECK(decide("tls.server", with({}, "::1")).verdict == pass);
    CHECK(decide("tls.server", with({broken}, "127.0.0.1")).verdict == failed);
    const auto plain = decide("tls.server", with({open}, "10.0.0.5"));
    REQUIRE(plain.findings.size() == 1);
    CHECK(plain.findings[0].observed == "plain HTTP on 10.0.0.5:9090");
    CHECK(decide("tls.server", with({}, "127.0.0.1:9090", false)).verdict == pass);
    CHECK(decide("tls.server", with({}, "[::1]:9090", false)).verdict == pass);
    CHECK(decide("tls.server", with({}, "localhost:9090", false)).verdict == pass);
    CHECK(decide("tls.server", with({}, ":9090", false)).verdict == failed);
    CHECK(decide("tls.server", with({}, "", false)).verdict == failed);  // the default is every address
    CHECK(decide("tls.server", Facts{}).verdict == none);
    Facts unseen;
    unseen.servers = std::unexpected(Error{Code::denied, EACCES, "open", "/proc", ""});
    CHECK(decide("tls.server", unseen).verdict == undecided);
}

TEST_CASE("tls.client-auth: demanded by the policy, and nothing asks for a certificate") {
    Policy policy;
    policy.tls.require_client_certificate = true;
    const auto config = with_text(regular(Use::configuration, 0644), "scrape_configs: []\n");
    CHECK(decide("tls.client-auth", host({config}), policy).verdict == failed);
    CHECK(decide("tls.client-auth", host({config})).verdict == none);
    const auto web = with_text(regular(Use::web, 0640, 0, 108), "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c, client_auth_type: RequireAndVerifyClientCert}\n");
    CHECK(decide("tls.client-auth", host({config, web}), policy).verdict == pass);
    policy.access.present = true;
    CHECK(decide("tls.client-auth", host({config}), policy).verdict == none);
}

TEST_CASE("data.retention in the configuration") {
    Policy policy;
    policy.data.retention_time = std::chrono::hours(24 * 15);
    policy.data.retention_size = 10ULL << 30;
    const auto verdict = [&](const std::string& block) {
        auto facts = host({with_text(regular(Use::configuration, 0644), "storage: {tsdb: {retention: {" + block + "}}}\n")});
        facts.files->servers[0].version = "3.8.0";
        const std::vector<std::string> only{"data.retention"};
        const auto report = evaluate(policy, facts, only);
        return report.controls.at(0).decision.verdict;
    };
    CHECK(verdict("time: 15d, size: 10GB") == pass);
    CHECK(verdict("time: 2w") == pass);
    CHECK(verdict("time: 16d") == failed);
    CHECK(verdict("size: 11GB") == failed);
    CHECK(verdict("size: 0") == failed);
    CHECK(verdict("size: 1TiB") == failed);
    policy.data = {};
    CHECK(verdict("time: 1y") == none);
}

// ---- several servers, gaps ------------------------------------------------------------------------------------------

TEST_CASE("two servers: the worse verdict, both findings") {
    auto facts = host({with_text(regular(Use::configuration, 0644), "scrape_configs: [{job_name: a, bearer_token: t}]\n")});
    auto second = facts.files->servers[0];
    second.server = "prometheus@b.service";
    second.files[0].path = "/etc/prometheus/b.yml";
    facts.files->servers.push_back(second);
    CHECK(decide("secrets.inline", facts).findings.size() == 2);
    facts.files->servers[1].files[0].text = std::make_shared<const std::string>("scrape_configs: []\n");
    CHECK(decide("secrets.inline", facts).findings.size() == 1);
}

TEST_CASE("a file whose text is not known leaves open what it says") {
    auto unread = regular(Use::scrape_configs, 0644);
    unread.path = "/etc/prometheus/more.yml";
    unread.unread = Error{Code::limit, 0, "read", "/etc/prometheus/more.yml", "too long"};
    const auto decision = decide("secrets.inline", host({with_text(regular(Use::configuration, 0644), "scrape_configs: []\n"), unread}));
    CHECK(decision.verdict == undecided);
    CHECK(decision.reason.contains("more.yml"));
    Facts broken;
    broken.files = std::unexpected(Error{Code::denied, EACCES, "open", "/etc", ""});
    CHECK(decide("secrets.inline", broken).verdict == undecided);
    CHECK(decide("secrets.inline", Facts{}).verdict == none);
}

TEST_CASE("a mounted image: nothing of a kernel, everything of files") {
    auto facts = host({with_text(regular(Use::configuration, 0644), "scrape_configs: [{job_name: a, bearer_token: t}]\n")});
    facts.root = "/mnt/image";
    const auto report = evaluate({}, facts);
    for (const auto& row : report.controls) {
        CAPTURE(row.control->id);
        if (row.control->id == "network.packet-filter") CHECK(row.decision.reason == "a mounted image has no kernel, processes or answers of its own");
        if (row.control->id == "secrets.inline") CHECK(row.decision.verdict == failed);
    }
}
