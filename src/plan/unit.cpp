// The unit's flags and sandbox: two drop-ins over what the unit would be without them, so that what an administrator changes there is taken over. Pure.

#include "unit.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "promwarden/demands.hpp"

namespace promwarden {

namespace {

// Drop-ins are read in the order of their names; the last word is ours, but for who calls a file "zz-…".
constexpr std::string_view flags_file = "promwarden-flags.conf", sandbox_file = "promwarden-sandbox.conf";
constexpr std::string_view sandbox_control = "config.service-sandbox";
constexpr std::array file_names{flags_file, sandbox_file};

const Server* server_of(const Policy& policy, const Facts& facts) {
    if (!facts.servers) return nullptr;
    const auto found = std::ranges::find_if(
        *facts.servers, [&](const Server& server) { return server.kind == Server::Kind::unit && server.name == policy.prometheus.unit; });
    return found == facts.servers->end() ? nullptr : &*found;
}

/// What the report has of a control: whether an apply is asked for it, only says what it would do, or leaves it.
enum class Asked : std::uint8_t { no, only_shown, yes };
Asked asked(const Report& report, std::string_view control) {
    const auto found = std::ranges::find_if(report.controls, [&](const ControlReport& one) { return one.control->id == control; });
    if (found == report.controls.end() || found->waived || found->mode == Mode::off) return Asked::no;
    return found->mode == Mode::enforce ? Asked::yes : Asked::only_shown;
}

/// One text after another under one name, each asked for by somebody else.
class DropIn {
public:
    DropIn(const Policy& policy, const unit::Bare& bare, std::string_view name, std::vector<Change>& changes)
        : restart_(policy.prometheus.restart_when_needed),
          unit_(policy.prometheus.unit),
          path_(fmt::format("{}/{}", bare.directory, name)),
          changes_(changes) {
        if (const auto there = bare.ours.find(std::string(name)); there != bare.ours.end()) text_ = there->second;
    }

    void become(std::optional<std::string> text, std::string_view control, std::string_view what) {
        if (text == text_) return;
        const auto contents = [](const std::optional<std::string>& from) {
            return from ? std::optional(Contents{{*from, ""}}) : std::nullopt;
        };
        Change change{
            Change::Kind::unit, std::string(control), path_, "", "", WriteFile{contents(text_), contents(text), {0, 0, 0644, {}}, 0755}};
        change.effect = restart_ ? Effect::restart : Effect::units;
        change.summary = fmt::format("{}; {}", what, restart_ ? fmt::format("{} is restarted", unit_) : "takes effect at its next restart");
        change.diff = diff_of(path_, change.deed);
        changes_.push_back(std::move(change));
        text_ = std::move(text);
    }

private:
    bool restart_;
    std::string unit_, path_;
    std::vector<Change>& changes_;
    std::optional<std::string> text_;
};

// ---- flags ----------------------------------------------------------------------------------------------------------

std::string flags_text(const unit::Bare& bare, const std::vector<std::string>& words) {
    std::vector<std::string> lines;
    for (const auto& word : words) lines.push_back(unit::quoted(word));
    const auto marks = std::string_view(bare.unit.exec_start.front()).substr(0, bare.unit.exec_start.front().find_first_not_of("@-:+!|"));
    std::string kept;  // ":" leaves variables alone; here they are put in already
    for (const char mark : marks)
        if (mark != ':') kept += mark;
    return fmt::format(
        "# Written by promwarden, from the unit's own command line and its environment; what is changed there is taken over by the next "
        "'promwarden apply'.\n"
        "[Service]\nExecStart=\nExecStart={}{}\n",
        kept, fmt::join(lines, " \\\n    "));
}

/// The flags of a line as the policy wants them, with the controls that changed something.
struct Wanted {
    Flags flags;
    std::vector<std::string_view> by;
};

void put_right(const Policy& policy, const prometheus::Build& build, const unit::Bare& bare, const FlagDemand& demand, Wanted& wanted) {
    if (demand.names_web_config && !bare.web_config) return;
    const auto before = words_of("", wanted.flags);
    demand.put_right(policy, build, wanted.flags);
    if (words_of("", wanted.flags) != before) wanted.by.push_back(demand.control);
}

/// Whether our drop-in, as it is there, has made that demand true already. Then it is kept by an apply that is not asked about it.
bool made_before(const Policy& policy, const prometheus::Build& build, const unit::Bare& bare, const FlagDemand& demand) {
    const auto there = bare.ours.find(std::string(flags_file));
    if (there == bare.ours.end() || policy.mode_of(demand.control) != Mode::enforce) return false;
    const auto unit = unit::merge(bare.unit.name, unit::read_assignments("", there->second));
    if (unit.exec_start.empty()) return false;
    const auto arguments = unit::command_line(unit.exec_start, {}, "");
    auto flags = prometheus::read_command_line("", std::span(arguments).subspan(1), build, [](const std::string& path) {
                     return fail(Code::missing, "open", path);
                 }).flags;
    const auto before = words_of("", flags);
    demand.put_right(policy, build, flags);
    return words_of("", flags) == before;
}

/// Words that are no flag of that version are not in the line's flags: written anew, it would have lost them, and whoever put them there meant something.
bool loses_words(const CommandLine& line) {
    constexpr std::string_view lost[] = {"unknown ", "unexpected argument", "expected argument", "it would only"};
    return std::ranges::any_of(line.problems, [&](const std::string& problem) {
        return std::ranges::any_of(lost, [&](std::string_view one) { return problem.starts_with(one); });
    });
}

/// The text that has this line run, nullopt where it is the unit's own; an error where Prometheus would not start with it.
Result<std::optional<std::string>> text_for(const unit::Bare& bare, const prometheus::Build& build, const Wanted& wanted) {
    if (wanted.by.empty()) return std::nullopt;
    if (loses_words(*bare.line)) return fail(Code::invalid, "write the flags of", bare.unit.name, bare.line->problems.front());
    const auto words = words_of(bare.line->words.front(), wanted.flags);
    std::vector<prometheus::Argument> arguments;
    for (const auto& word : std::span(words).subspan(1)) arguments.push_back({word, ""});
    const auto line = prometheus::read_command_line(words.front(), arguments, build,
                                                    [](const std::string& path) { return fail(Code::missing, "open", path); });
    if (!line.problems.empty()) return fail(Code::invalid, "write the flags of", bare.unit.name, line.problems.front());
    return flags_text(bare, words);
}

/// What is not known whole is not written anew.
std::string why_left(const unit::Bare& bare) {
    if (!bare.line) return bare.line.error().text();
    return bare.line->unread.empty() ? bare.fixed : bare.line->unread.front();
}

void plan_flags(const Policy& policy, const prometheus::Build& build, const unit::Bare& bare, const Report& report, Plan& plan) {
    const bool needed = std::ranges::any_of(report.controls, [](const ControlReport& one) {
        return one.decision.verdict == Verdict::fail && !one.waived && one.mode != Mode::off && std::ranges::find(flag_demands(), one.control->id, &FlagDemand::control) != flag_demands().end();
    });
    const auto refuse = [&](const std::string& why) {
        if (needed) plan.refusals.push_back(fmt::format("the flags of {} are left as they are: {}", bare.unit.name, why));
    };
    if (const auto why = why_left(bare); !why.empty()) return refuse(why);
    DropIn drop_in(policy, bare, flags_file, plan.changes);
    Wanted wanted{bare.line->flags, {}};
    std::string_view control;
    const auto add_all = [&](Asked as) {
        for (const auto& demand : flag_demands()) {
            const auto how = asked(report, demand.control);
            if (how == as && control.empty()) control = demand.control;
            if (how == as || (as == Asked::yes && how == Asked::no && made_before(policy, build, bare, demand)))
                put_right(policy, build, bare, demand, wanted);
        }
    };
    for (const auto as : {Asked::yes, Asked::only_shown}) {
        control = {};
        const auto known = wanted.by.size();
        add_all(as);
        if (control.empty() || (as == Asked::only_shown && wanted.by.size() == known)) continue;
        if (wanted.by.size() > known && asked(report, wanted.by[known]) == as) control = wanted.by[known];
        auto text = text_for(bare, build, wanted);
        if (!text) return refuse(text.error().text());
        drop_in.become(*std::move(text), control,
                       wanted.by.empty() ? "the unit's own flags again" : fmt::format("flags for {}", fmt::join(wanted.by, ", ")));
    }
}

// ---- sandbox --------------------------------------------------------------------------------------------------------

void plan_sandbox(const Policy& policy, const unit::Bare& bare, const Report& report, std::vector<Change>& changes) {
    if (asked(report, sandbox_control) == Asked::no) return;
    const auto settings = missing_settings(bare.unit, bare.line.value_or(CommandLine{}), bare.account);
    std::string text = "# Written by promwarden: what the unit does not say about itself; 'promwarden undo' takes it back.\n[Service]\n";
    for (const auto& setting : settings) text += fmt::format("{}={}\n", setting.name, setting.value);
    DropIn drop_in(policy, bare, sandbox_file, changes);
    drop_in.become(settings.empty() ? std::nullopt : std::optional(std::move(text)), sandbox_control,
                   settings.empty() ? "the unit confines itself" : "confines the service");
}

}  // namespace

std::span<const std::string_view> unit_files() { return file_names; }

void plan_unit(const Policy& policy, const ApplyFacts& facts, const Report& report, Plan& plan) {
    const auto* server = server_of(policy, facts);
    if (server == nullptr || !facts.bare_unit || !*facts.bare_unit) return;
    const auto& bare = **facts.bare_unit;
    plan_flags(policy, prometheus::build_of(*server), bare, report, plan);
    plan_sandbox(policy, bare, report, plan.changes);
}

}  // namespace promwarden
