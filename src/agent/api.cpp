// The socket's methods: one row each, with who may call it.

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "agent.hpp"

namespace promwarden {

namespace {

using varlink::Access;
using varlink::Call;
using varlink::Streaming;

constexpr std::string_view description = R"(# What promwarden knows of this host, and what root may ask it to do.
# Objects follow the schemas promwarden.status/1, promwarden.report/1, promwarden.plan/1 and promwarden.event/1.
interface io.promwarden

# The agent's view: policy, packet filter with its counters, last drift and heal, the report. With `more` the report comes in parts, as Report's
method Status() -> (status: object)

# A report of these controls (none named: all). With `more` it comes in parts, each with some of the controls
method Report(only: ?[]string) -> (report: object)

# What an apply of the policy on disk would change
method Plan() -> (plan: object)

# Past transitions, oldest first; with `more` in parts
method History(since: ?string, control: ?string) -> (events: []object)

# Transitions as they happen. Where a listener is too slow, `dropped` counts what it missed
method Watch() -> (event: ?object, dropped: ?int)

# The catalogue of controls, or one of them
method Explain(control: ?string) -> (controls: []object)

# OpenMetrics
method Metrics() -> (text: string)

# The certificates that the policy names: what is published, when it is due, whether it is served
method Certificates() -> (certificates: []object)

# Renews a certificate of the policy now, or does what is due, or puts a new local authority in the place of the old one. Root only
method Rotate(name: ?string, rekey: ?bool, force: ?bool, due: ?bool, authority: ?bool, until_overlap: ?bool) -> (rotations: []object, notes: []string, step: ?string)

# Takes the policy on disk and makes it so, or only these controls of the policy in force. With edit_config it edits prometheus.yml, too, where a control asks for it. With confirm_within (seconds) it returns to the one before unless Confirm comes. With `more` the report comes in parts. Root only
method Apply(force: ?bool, confirm_within: ?int, only: ?[]string, edit_config: ?bool) -> (plan: object, report: object)

# Keeps what is on trial. Root only
method Confirm() -> ()

# Returns to the policy before, or to none at all. Root only
method Undo(all: ?bool) -> (plan: object)

# Takes the policy on disk. Answers when the kernel has it; keeping it on disk follows at once. Root only
method Reload() -> (plan: object)

error PolicyInvalid(text: string)
error Refused(text: string)
error Failed(text: string)
# The agent itself lacks a privilege, as in a container without CAP_NET_ADMIN
error NotPermitted(text: string)
error NothingPending(text: string)
error NoPolicy(text: string)
error ReplyTooLarge(limit: int)
error TooManyConnections()
)";

constexpr std::size_t findings_in_part = 500;  // but always one control, which has at most a thousand
constexpr std::size_t events_in_part = 200;

void answer_error(Call& call, const Error& error) {
    const auto name = error.code == Code::conflict  ? "io.promwarden.Refused"
                      : error.code == Code::missing ? "io.promwarden.NothingPending"
                      : error.code == Code::denied  ? "io.promwarden.NotPermitted"
                                                    : "io.promwarden.Failed";
    call.error(name, {{"text", error.text()}});
}

/// Replies with `first`, whose object at `place` gets the report. With `more` the report comes in parts, the others with nothing else in them.
void reply_with_report(Call& call, Json first, const Json::json_pointer& place, Report report) {
    if (!call.more()) {
        first[place] = to_json(report);
        return call.reply(first);
    }
    call.reply_in_parts([first = std::move(first), place, summary = to_json(report)["summary"], report = std::move(report), from = std::size_t{0}](Json& part) mutable {
        part = std::exchange(first, Json::object());
        Report piece{report.host, report.time, report.policy_path, report.policy_sha256, {}};
        for (std::size_t findings = 0; from < report.controls.size() && (piece.controls.empty() || findings < findings_in_part); ++from) {
            findings += report.controls[from].decision.findings.size() + 1;
            piece.controls.push_back(std::move(report.controls[from]));
        }
        part[place] = to_json(piece);
        part[place]["summary"] = summary;
        return from < report.controls.size();
    });
}

void answer_error(Call& call, const Diagnostics& diagnostics) {
    std::string text;
    for (const auto& one : diagnostics) text += to_text(one, call.peer().uid == 0) + "\n";
    call.error("io.promwarden.PolicyInvalid", {{"text", text}});
}

/// A parameter of a type; null counts as left out. Answers the call and returns false where it is of another.
template <class Value>
bool parameter(Call& call, const char* name, bool (Json::*of_type)() const noexcept, std::optional<Value>& value) {
    const auto& all = call.parameters();
    const auto found = all.find(name);
    if (found == all.end() || found->is_null()) return true;
    if (!((*found).*of_type)()) {
        call.invalid_parameter(name);
        return false;
    }
    value = found->template get<Value>();
    return true;
}

/// The parameter "only": ids of controls, none where it is left out. Answers the call and returns nullopt where it names anything else.
std::optional<std::vector<std::string>> controls_named(Call& call) {
    std::vector<std::string> only;
    const auto named = call.parameters().find("only");
    if (named == call.parameters().end() || named->is_null()) return only;
    const bool known = named->is_array() && std::ranges::all_of(*named, [](const Json& id) { return id.is_string() && find_control(id.get<std::string>()) != nullptr; });
    if (!known) call.invalid_parameter("only");
    if (!known) return std::nullopt;
    for (const auto& id : *named) only.push_back(id.get<std::string>());
    return only;
}

}  // namespace

varlink::Service Agent::service() {
    const auto status = [this](Call call) { reply_with_report(call, {{"status", this->status()}}, Json::json_pointer("/status/report"), report()); };
    const auto watch = [this](Call call) { watchers_.add(std::move(call)); };
    const auto metrics = [this](Call call) { call.reply({{"text", this->metrics()}}); };
    const auto explain = [](Call call) {
        std::optional<std::string> name;
        if (!parameter(call, "control", &Json::is_string, name)) return;
        Json controls = Json::array();
        for (const auto& control : catalogue())
            if (!name || control.id == *name) controls.push_back(to_json(control));
        if (controls.empty()) return call.invalid_parameter("control");
        call.reply({{"controls", controls}});
    };
    varlink::Service service;
    service.vendor = service.product = "promwarden";
    service.version = PROMWARDEN_VERSION;
    service.url = "";
    service.too_large = "io.promwarden.ReplyTooLarge";
    service.too_many = "io.promwarden.TooManyConnections";
    service.interfaces = {{"io.promwarden",
                           description,
                           {
                               {"Status", Access::anyone, Streaming::allowed, {}, status},
                               {"Report", Access::anyone, Streaming::allowed, {"only"}, [this](Call call) { on_report(std::move(call)); }},
                               {"Plan", Access::anyone, Streaming::never, {}, [this](Call call) { on_plan(std::move(call)); }},
                               {"History", Access::anyone, Streaming::allowed, {"since", "control"}, [this](Call call) { on_history(std::move(call)); }},
                               {"Watch", Access::anyone, Streaming::required, {}, watch},
                               {"Explain", Access::anyone, Streaming::never, {"control"}, explain},
                               {"Metrics", Access::anyone, Streaming::never, {}, metrics},
                               {"Certificates", Access::anyone, Streaming::never, {}, [this](Call call) { call.reply({{"certificates", certificates()}}); }},
                               {"Rotate", Access::root, Streaming::never, {"name", "rekey", "force", "due", "authority", "until_overlap"}, [this](Call call) { on_rotate(std::move(call)); }},
                               {"Apply", Access::root, Streaming::allowed, {"force", "confirm_within", "only", "edit_config"}, [this](Call call) { on_apply(std::move(call)); }},
                               {"Confirm", Access::root, Streaming::never, {}, [this](Call call) { on_confirm(std::move(call)); }},
                               {"Undo", Access::root, Streaming::never, {"all"}, [this](Call call) { on_undo(std::move(call)); }},
                               {"Reload", Access::root, Streaming::never, {}, [this](Call call) { on_reload(std::move(call)); }},
                           }}};
    service.resources = {{"/metrics", [this] { return varlink::Page{200, "application/openmetrics-text; version=1.0.0; charset=utf-8", this->metrics()}; }},
                         {"/v1/status", [this] { 
                              auto all = this->status();
                              all["report"] = to_json(report());
                              return varlink::Page{200, "application/json", json_text(all) + "\n"};
                           }},
                         {"/healthz", [] { return varlink::Page{200, "text/plain; charset=utf-8", "ok\n"}; }}};
    return service;
}

void Agent::on_apply(Call call) {
    std::optional<bool> force, edit_config;
    std::optional<std::int64_t> seconds;
    if (!parameter(call, "force", &Json::is_boolean, force) || !parameter(call, "edit_config", &Json::is_boolean, edit_config) || !parameter(call, "confirm_within", &Json::is_number_integer, seconds)) return;
    if (seconds && (*seconds < 1 || *seconds > 86'400)) return call.invalid_parameter("confirm_within");
    auto only = controls_named(call);
    if (!only) return;
    auto candidate = read_disk();
    if (!candidate) return answer_error(call, candidate.error());
    ApplyRequest request;
    request.force = force.value_or(false);
    request.edit_config = edit_config.value_or(false);
    request.caller = call.peer().pid;
    if (seconds) request.confirm_within = std::chrono::seconds(*seconds);
    request.only = *std::move(only);
    take(*std::move(candidate), request, [this, call = std::make_shared<Call>(std::move(call))](const Result<Plan>& plan) {
        if (!plan) return answer_error(*call, plan.error());
        reply_with_report(*call, {{"plan", to_json(*plan)}}, Json::json_pointer("/report"), report());
    });
}

void Agent::on_reload(Call call) {
    auto candidate = read_disk();
    if (!candidate) return answer_error(call, candidate.error());
    ApplyRequest request;
    request.accept_later = true;
    request.only = {"network.packet-filter"};  // the table at once; files a moment later
    request.caller = call.peer().pid;
    take(*std::move(candidate), request, [call = std::make_shared<Call>(std::move(call))](const Result<Plan>& plan) {
        if (!plan) return answer_error(*call, plan.error());
        call->reply({{"plan", to_json(*plan)}});
    });
}

void Agent::on_confirm(Call call) {
    if (working_) return when_idle([this, call = std::make_shared<Call>(std::move(call))] { on_confirm(std::move(*call)); });
    if (const auto done = engine_.confirm(); !done) return answer_error(call, done.error());
    if (const auto watched = watch_trial(); !watched) log_problem(watched.error().text());
    record(event(Event::Kind::policy, "policy " + options_.policy, "confirmed", "confirmed"));
    arm_certificates(std::chrono::seconds(0));
    call.reply(Json::object());
}

void Agent::on_undo(Call call) {
    std::optional<bool> all;
    if (!parameter(call, "all", &Json::is_boolean, all)) return;
    if (working_) return when_idle([this, call = std::make_shared<Call>(std::move(call))] { on_undo(std::move(*call)); });
    const auto plan = engine_.plan_undo(all.value_or(false));
    if (!plan) return answer_error(call, plan.error());
    const auto finish = [this, all = all.value_or(false), before = *plan, call = std::make_shared<Call>(std::move(call))](const Result<>& worked) mutable {
        const auto rest = engine_.undo_rest(all);
        return_to_accepted();
        if (const auto watched = watch_trial(); !watched) log_problem(watched.error().text());
        record(event(Event::Kind::undo, "policy " + options_.policy, "undone", in_force_ ? "the policy before is in force" : "no policy is in force"));
        compare_disk();
        if (!rest || !worked) return answer_error(*call, rest ? worked.error() : rest.error());
        std::ranges::copy(rest->changes, std::back_inserter(before.changes));
        before.cuts = rest->cuts;
        call->reply({{"plan", to_json(before)}});
    };
    if (plan->empty()) return std::function<void(Result<>)>(finish)({});
    start_work([this, all = all.value_or(false)] { return engine_.undo_work(all); }, finish);
}

void Agent::on_report(Call call) {
    const auto only = controls_named(call);
    if (!only) return;
    auto whole = report();
    if (!only->empty()) std::erase_if(whole.controls, [&](const ControlReport& one) { return std::ranges::find(*only, one.control->id) == only->end(); });
    reply_with_report(call, Json::object(), Json::json_pointer("/report"), std::move(whole));
}

void Agent::on_history(Call call) {
    std::optional<std::string> since, control;
    if (!parameter(call, "since", &Json::is_string, since) || !parameter(call, "control", &Json::is_string, control)) return;
    std::optional<std::chrono::system_clock::time_point> from;
    if (since) {
        const auto time = parse_time(*since);
        if (!time) return call.invalid_parameter("since");
        from = *time;
    }
    auto events = engine_.state().history(from, control.value_or(""), call.more() ? 10'000 : events_in_part);
    if (!events) return answer_error(call, events.error());
    call.reply_in_parts([events = *std::move(events), at = std::size_t{0}](Json& part) mutable {
        Json list = Json::array();
        for (const auto until = std::min(at + events_in_part, events.size()); at < until; ++at) list.push_back(to_json(events[at]));
        part = {{"events", std::move(list)}};
        return at < events.size();
    });
}

void Agent::on_plan(Call call) {
    auto candidate = read_disk();
    if (!candidate) return answer_error(call, candidate.error());
    auto plan = Engine::plan(candidate->policy, engine_.observe_for_apply(candidate->policy, {}, true), {}, true);
    for (auto& change : plan.changes)  // lines of files that this caller may not be able to read
        if (call.peer().uid != 0 && (std::holds_alternative<WriteFile>(change.deed) || std::holds_alternative<EditFile>(change.deed))) change.diff.clear();
    call.reply({{"plan", to_json(plan)}});
}

}  // namespace promwarden
