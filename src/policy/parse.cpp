// Texts → tree → Policy.

#include <algorithm>

#include <fmt/format.h>

#include "build.hpp"
#include "control_ids.hpp"
#include "merge.hpp"

namespace promwarden {

namespace policy {

std::string nearest_hint(std::string_view word, const std::vector<std::string_view>& candidates) {
    const auto near = nearest(word, candidates);
    return near ? fmt::format("did you mean '{}'?", *near) : "";
}

std::optional<Account> find_user(const std::string& name, Place at, const Build& build) {
    if (const auto id = build.accounts.user(name)) return Account{name, *id};
    build.notes.add(at, fmt::format("unknown user '{}'", name));
    return std::nullopt;
}

bool Unique::add(const std::string& name, Place at) {
    if (name.empty()) return true;  // missing or malformed, and reported as such
    const auto [known, fresh] = seen_.emplace(name, at);
    if (!fresh) notes_.add(at, fmt::format("the {} '{}' is there twice", kind_, name), {}, known->second);
    return fresh;
}

PrometheusPolicy build_prometheus(const Reader& table) {
    PrometheusPolicy prometheus;
    prometheus.unit = table.text("unit");
    for (const auto& text : table.texts("listen"))
        if (const auto endpoint = parse_endpoint(text)) prometheus.listen.push_back(*endpoint);
    prometheus.restart_when_needed = table.choice<int>("restart") == 1;
    prometheus.config = table.text("config");
    prometheus.web_config = table.text("web_config");
    prometheus.storage = table.text("storage");
    const auto allow = table.section("allow");
    prometheus.allow = {allow.flag("admin_api"), allow.flag("lifecycle"), allow.flag("remote_write_receiver"), allow.flag("otlp_receiver"), allow.text("cors_origin")};
    const auto probe = table.section("probe");
    prometheus.probe = {probe.text("user"), probe.text("password_file")};
    return prometheus;
}

std::vector<FileRule> build_files(const Reader& root, const Build& build) {
    std::vector<FileRule> rules;
    for (const auto& block : root.blocks("file")) {
        FileRule rule;
        rule.where = build.notes.where(block.at());
        rule.path = block.text("path");
        if (const auto owner = block.text("owner"); !owner.empty()) rule.owner = find_user(owner, block.find("owner")->at, build);
        if (const auto group = block.text("group"); !group.empty()) {
            rule.group_name = group;
            if (const auto id = build.accounts.group(group)) rule.group = Account{group, *id};
        }
        rule.mode = parse_mode(block.text("mode"));
        rules.push_back(std::move(rule));
    }
    return rules;
}

namespace {

void check_control(std::string_view id, Place at, Notes& notes) {
    const auto ids = control_ids();
    if (!id.empty() && !is_control(id)) notes.add(at, fmt::format("unknown control '{}'", id), nearest_hint(id, {ids.begin(), ids.end()}));
}

std::map<std::string, Mode> build_controls(const Reader& table) {
    std::map<std::string, Mode> modes;
    for (const auto& entry : table.entries()) {
        if (entry.value.kind == Value::Kind::table) continue;  // reported with the keys
        check_control(entry.key, entry.at, table.notes());
        modes[entry.key] = table.choice<Mode>(entry.key);
    }
    return modes;
}

Policy::Data build_data(const Reader& table) {
    Policy::Data data;
    data.encryption_required = table.choice<int>("encryption") == 1;
    const auto retention = table.section("retention");
    data.retention_time = retention.duration("time");
    data.retention_size = parse_size(retention.text("size"));
    return data;
}

Policy build_policy(const Value& tree, const Build& build) {
    const Reader root(tree, "", build.notes);
    Policy policy;
    const auto agent = root.section("agent");
    policy.mode = agent.choice<Mode>("mode");
    policy.recheck = agent.duration("recheck").value_or(policy.recheck);
    policy.controls = build_controls(root.section("controls"));
    policy.prometheus = build_prometheus(root.section("prometheus"));
    policy.firewall = build_firewall(root.section("firewall"), build);
    policy.files = build_files(root, build);
    policy.tls = build_tls(root.section("tls"));
    if (root.has("access")) policy.access = build_access(root.section("access"), policy.tls);
    policy.data = build_data(root.section("data"));
    policy.redact_labels = root.section("labels").texts("redact");
    policy.query_log = root.section("audit").text("query_log");
    const auto alerts = root.section("alerts");
    policy.alerts = {static_cast<std::uint32_t>(alerts.number("query_rate")), static_cast<std::uint32_t>(alerts.number("auth_failures"))};
    policy.waivers = build_waivers(root);
    return policy;
}

/// Lists that no group names any more are forgotten.
void forget_unnamed(const Policy& policy, ParsedLists& lists) {
    std::erase_if(lists, [&](const auto& list) {
        return std::ranges::none_of(policy.firewall.sources, [&](const SourceGroup& group) { return std::ranges::find(group.lists, list.first) != group.lists.end(); });
    });
}

}  // namespace

std::vector<Waiver> build_waivers(const Reader& root) {
    std::vector<Waiver> waivers;
    for (const auto& block : root.blocks("waiver")) {
        Waiver waiver;
        waiver.where = root.notes().where(block.at());
        waiver.control = block.text("control");
        if (const auto* control = block.find("control")) check_control(waiver.control, control->at, root.notes());
        waiver.subject = block.text("subject");
        waiver.reason = block.text("reason");
        waiver.owner = block.text("owner");
        waiver.expires = block.moment("expires").value_or(std::chrono::system_clock::time_point{});
        waivers.push_back(std::move(waiver));
    }
    return waivers;
}

}  // namespace policy

bool Service::operator==(const Service& other) const {
    const auto rest = [](const Service& one) { return std::tie(one.name, one.ports, one.protocol, one.allow, one.deny, one.log, one.local_users); };
    return rest(*this) == rest(other);
}

Mode Policy::mode_of(std::string_view control) const {
    const auto own = controls.find(std::string(control));
    return own == controls.end() ? mode : std::max(mode, own->second);  // enforce < audit < off
}

std::expected<Policy, Diagnostics> parse(const Sources& sources, const Accounts& accounts, ParsedLists* lists) {
    const bool complete = std::ranges::all_of(sources.files, [](const SourceFile& file) { return file.text != nullptr; });
    if (sources.files.empty() || !complete) return std::unexpected(Diagnostics{{{}, "there is no policy", {}, {}, 0, {}}});
    policy::Notes notes(sources);
    ParsedLists own;
    const policy::Build build{sources, accounts, lists == nullptr ? own : *lists, notes};
    const auto tree = policy::merged(sources, notes);
    if (!tree) return std::unexpected(notes.take());
    policy::check_keys(*tree, notes);
    auto policy = policy::build_policy(*tree, build);
    if (!notes.empty()) return std::unexpected(notes.take());
    policy::forget_unnamed(policy, build.lists);
    policy.path = sources.files.front().path;
    std::string texts;
    for (const auto& file : sources.files)
        if (file.kind == SourceFile::Kind::policy) texts += *file.text;
    policy.sha256 = sha256(texts);
    return policy;
}

}  // namespace promwarden
