// The command line: the table of commands, and what CLI11 makes of the words.

#include <algorithm>
#include <array>
#include <map>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "command.hpp"

namespace promwarden::cli {

namespace {

constexpr unsigned report_options = report_format | output | selection;

constexpr auto commands = std::to_array<Command>({
    {"check", "", "observe once, evaluate, report", report_options | image_option | live_option, check},
    {"plan", "", "the exact changes that apply would make, and the connections it would cut", text_or_json | output | selection | edit_option, plan},
    {"apply", "", "make it so, then observe again and report", report_options | apply_options | edit_option, apply},
    {"confirm", "", "keep what 'apply --confirm-within' made", nothing, confirm},
    {"undo", "", "put back what the last apply changed", text_or_json | output | undo_options, undo},
    {"status", "", "the agent's current view", report_options, status},
    {"watch", "", "stream transitions until interrupted", text_or_json, watch},
    {"history", "", "past transitions", text_or_json | output | history_options, history},
    {"why", "ADDRESS[:PORT]", "what happens to a packet from that address to a guarded port", text_or_json | output, why},
    {"why-request", "'METHOD PATH'", "what the proxy does with a request: which rules apply, and what the backend receives", text_or_json | output | request_options, why_request},
    {"render nginx", "", "print the proxy's site that the policy implies", output, render_nginx},
    {"lint", "FILE...", "the same controls over Prometheus' own files, anywhere", report_options | lint_options, lint},
    {"cert list", "", "the policy's certificates: names, expiry, when they are due, whether they are served", text_or_json | output, cert_list},
    {"cert issue", "NAME", "a certificate with a new key, now", text_or_json | output | force_option, cert_issue},
    {"cert rotate", "NAME", "renew a certificate now, with the key it has", text_or_json | output | force_option | rekey_option, cert_rotate},
    {"cert rotate-ca", "", "put a new local authority in the place of the old one; continues what was begun", text_or_json | output | overlap_option, cert_rotate_ca},
    {"access user add", "NAME", "a user of the proxy, or another password for one", output | user_options, access_user_add},
    {"access user list", "", "the proxy's users, their roles and how their passwords are kept", text_or_json | output, access_user_list},
    {"access user remove", "NAME", "take a user away", output, access_user_remove},
    {"policy check", "[FILE]", "validate a policy", text_or_json | output, policy_check},
    {"policy show", "", "the policy with every default", output, policy_show},
    {"render rules", "", "the alerting rules that the policy implies", output, render_rules},
    {"render unit", "", "the drop-ins that give this host's Prometheus unit its flags and its sandbox", output, render_unit},
    {"render scrape", "", "the job by which Prometheus scrapes what the agent counts", output, render_scrape},
    {"render metrics", "", "print what the agent counts, for node_exporter's textfile directory", output, render_metrics},
    {"explain", "[CONTROL]", "what a control is about; without one, the catalogue", text_or_json | output, explain},
});

/// The words as they were written, before they mean something.
struct Words {
    std::string format, fail_on, confirm_within, since;
    bool text_or_json_only = false;
};

struct Option {
    unsigned takes;
    std::string_view name, value, help;
    void (*add)(CLI::App&, const std::string& name, const std::string& help, Options&, Words&);
};

constexpr auto specific = std::to_array<Option>({
    {text_or_json, "--format", "FORMAT", "text or json", [](auto& app, auto& name, auto& help, auto&, auto& words) { app.add_option(name, words.format, help); }},
    {report_format, "--format", "FORMAT", "text, json, sarif, junit or openmetrics",
     [](auto& app, auto& name, auto& help, auto&, auto& words) { app.add_option(name, words.format, help); }},
    {output, "--output", "FILE", "write the result to a file, in one step", [](auto& app, auto& name, auto& help, auto& options, auto&) { app.add_option(name, options.output, help); }},
    {selection, "--only", "CONTROL", "this control only; may be repeated",
     [](auto& app, auto& name, auto& help, auto& options, auto&) { app.add_option(name, options.only, help)->allow_extra_args(false); }},
    {selection, "--fail-on", "SEVERITY", "lowest that decides the exit status: critical, high, medium or low",
     [](auto& app, auto& name, auto& help, auto&, auto& words) { app.add_option(name, words.fail_on, help); }},
    {live_option, "--no-live", "", "ask no endpoint: what is configured and what the kernel says is all",
     [](auto& app, auto& name, auto& help, auto& options, auto&) { app.add_flag(name, options.no_live, help); }},
    {apply_options, "--confirm-within", "TIME", "undo everything unless 'promwarden confirm' follows in that time: 60s, 5m",
     [](auto& app, auto& name, auto& help, auto&, auto& words) { app.add_option(name, words.confirm_within, help); }},
    {apply_options, "--force", "", "over a stranger on a guarded port, and through your own connection",
     [](auto& app, auto& name, auto& help, auto& options, auto&) { app.add_flag(name, options.force, help); }},
    {edit_option, "--edit-config", "", "edit prometheus.yml, too, where a control asks for it",
     [](auto& app, auto& name, auto& help, auto& options, auto&) { app.add_flag(name, options.edit_config, help); }},
    {force_option, "--force", "", "even where the new one expires before the one that is there",
     [](auto& app, auto& name, auto& help, auto& options, auto&) { app.add_flag(name, options.force, help); }},
    {rekey_option, "--rekey", "", "with a new key", [](auto& app, auto& name, auto& help, auto& options, auto&) { app.add_flag(name, options.rekey, help); }},
    {overlap_option, "--until-overlap", "", "stop while both are believed, so that other hosts can be given the bundle",
     [](auto& app, auto& name, auto& help, auto& options, auto&) { app.add_flag(name, options.until_overlap, help); }},
    {undo_options, "--all", "", "what every apply changed", [](auto& app, auto& name, auto& help, auto& options, auto&) { app.add_flag(name, options.all, help); }},
    {lint_options, "--as", "KIND", "instead of what the content suggests: prometheus, scrape-configs, web, rules, http-client, targets, nginx, oauth2-proxy, compose, unit",
     [](auto& app, auto& name, auto& help, auto& options, auto&) { app.add_option(name, options.kind, help); }},
    {image_option, "--root", "DIR", "what lies on the disk of a mounted image or chroot, instead of this host",
     [](auto& app, auto& name, auto& help, auto& options, auto&) { app.add_option(name, options.root, help)->check([](const std::string& word) { return word.empty() ? "a directory" : ""; }); }},
    {request_options, "--role", "ROLE", "who asks: a role of the policy; without it, a stranger",
     [](auto& app, auto& name, auto& help, auto& options, auto&) { app.add_option(name, options.role, help); }},
    {user_options, "--role", "ROLE", "the role that the user is to have; the policy has to say the same",
     [](auto& app, auto& name, auto& help, auto& options, auto&) { app.add_option(name, options.role, help); }},
    {history_options, "--since", "TIME", "how far back: 1h, 7d", [](auto& app, auto& name, auto& help, auto&, auto& words) { app.add_option(name, words.since, help); }},
    {history_options, "--control", "CONTROL", "this control only",
     [](auto& app, auto& name, auto& help, auto& options, auto&) { app.add_option(name, options.control, help); }},
});

constexpr std::string_view common_help =
    "  --policy FILE            the policy (/etc/promwarden/policy.toml)\n"
    "  --state DIR              what is remembered (/var/lib/promwarden)\n"
    "  --socket PATH            where the agent answers (/run/promwarden/io.promwarden)\n"
    "  -h, --help               this\n";

std::string overview() {
    std::string text = "promwarden keeps the host of a Prometheus server as its policy says.\n\nUsage: promwarden [OPTION...] COMMAND [ARGUMENT]\n\nCommands\n";
    for (const auto& command : commands) text += fmt::format("  {:<23}  {}\n", fmt::format("{} {}", command.name, command.argument), command.help);
    return text + "\nOptions\n" + std::string(common_help) +
           "  --version                the version\n\n"
           "Exit status: 0 everything holds, 1 something fails (plan: there are changes), 2 usage or policy error,\n"
           "3 something could not be determined, 4 an apply failed and was undone, 5 no agent, 6 permission denied.\n\n"
           "'promwarden COMMAND --help' has a command's own options; promwarden(1) has the rest.\n";
}

std::string help_of(const Command& command) {
    std::string text = fmt::format("Usage: promwarden {}{}{} [OPTION...]\n\n{}\n\nOptions\n", command.name, command.argument.empty() ? "" : " ", command.argument, command.help);
    for (const auto& option : specific)
        if ((option.takes & command.takes) != 0) text += fmt::format("  {:<23}  {}\n", fmt::format("{} {}", option.name, option.value), option.help);
    return text + std::string(common_help);
}

// ---- from words to values -------------------------------------------------------------------------------------------

std::string meant(std::string_view word, const std::vector<std::string_view>& candidates) {
    const auto near = nearest(word, candidates);
    return near ? fmt::format("; did you mean '{}'?", *near) : "";
}

std::string_view first_word(const Command& command) { return command.name.substr(0, command.name.find(' ')); }

Failure usage(const std::string& text) { return {Exit::usage, text}; }

/// Ids of `only` must be ones that a report can have; `history` may ask for any.
Or<> check_control(const std::string& id, bool decided) {
    const auto* control = find_control(id);
    std::vector<std::string_view> known;
    for (const auto& each : catalogue())
        if (!decided || each.decide != nullptr) known.push_back(each.id);
    if (control == nullptr) return std::unexpected(usage(fmt::format("unknown control '{}'{}", render::printable(id), meant(id, known))));
    if (decided && control->decide == nullptr) return std::unexpected(usage(fmt::format("this version does not decide {} yet", id)));
    return {};
}

Or<std::optional<std::chrono::seconds>> duration(std::string_view option, const std::string& word) {
    if (word.empty()) return std::nullopt;
    const auto value = parse_duration(word);
    if (!value || *value <= std::chrono::seconds(0)) return std::unexpected(usage(fmt::format("{} {}: not a time like 60s, 5m or 1h30m", option, render::printable(word))));
    return *value;
}

Or<> interpret(const Command& command, const Words& words, Options& options) {
    if (!words.format.empty()) {
        const auto format = render::parse_format(words.format);
        const bool known = format && ((command.takes & report_format) != 0 || *format == render::Format::text || *format == render::Format::json);
        if (!known) return std::unexpected(usage(fmt::format("--format {}: '{}' has no such format", render::printable(words.format), command.name)));
        options.format = *format;
    }
    if (!words.fail_on.empty()) {
        constexpr std::array<std::string_view, 4> names{"critical", "high", "medium", "low"};
        const auto found = std::ranges::find(names, words.fail_on);
        if (found == names.end()) return std::unexpected(usage(fmt::format("--fail-on {}: not one of critical, high, medium, low", render::printable(words.fail_on))));
        options.fail_on = static_cast<Severity>(found - names.begin());
    }
    options.confirm_within = TRY(duration("--confirm-within", words.confirm_within));
    if (options.confirm_within > std::chrono::hours(24)) return std::unexpected(usage("--confirm-within: at most 24h"));
    options.since = TRY(duration("--since", words.since));
    for (const auto& id : options.only) TRY(check_control(id, (command.takes & lint_options) == 0));
    if (!options.control.empty()) TRY(check_control(options.control, false));
    return {};
}

// ---- the parser -----------------------------------------------------------------------------------------------------

class Parser {
public:
    Parser() {
        app_.require_subcommand(1);
        app_.set_version_flag("--version", "promwarden " PROMWARDEN_VERSION);
        app_.add_option("--policy", options_.policy)->each([this](const std::string&) { options_.policy_given = true; });
        app_.add_option("--state", options_.state);
        app_.add_option("--socket", options_.socket);
        for (const auto& command : commands) add(command);
    }

    Or<Invocation> parse(int count, char** words) {
        try {
            app_.parse(count, words);
        } catch (const CLI::CallForHelp&) {
            return Invocation{nullptr, {}, chosen() == nullptr ? overview() : help_of(*chosen())};
        } catch (const CLI::CallForVersion&) {
            return Invocation{nullptr, {}, "promwarden " PROMWARDEN_VERSION "\n"};
        } catch (const CLI::ParseError& error) {
            return std::unexpected(usage(complaint(error)));
        }
        TRY(interpret(*chosen(), words_, options_));
        return Invocation{chosen(), std::move(options_), {}};
    }

private:
    void add(const Command& command) {
        auto* parent = &app_;
        std::size_t from = 0;
        for (auto space = command.name.find(' '); space != std::string_view::npos; space = command.name.find(' ', from)) {
            auto& group = groups_[command.name.substr(0, space)];
            if (group == nullptr) group = parent->add_subcommand(std::string(command.name.substr(from, space - from)))->require_subcommand(1)->fallthrough();
            parent = group;
            from = space + 1;
        }
        auto* made = parent->add_subcommand(std::string(command.name.substr(from)))->fallthrough();
        for (const auto& option : specific)
            if ((option.takes & command.takes) != 0) option.add(*made, std::string(option.name), std::string(option.help), options_, words_);
        if (command.argument.ends_with("...")) {
            made->add_option("argument", options_.files)->required();
        } else if (!command.argument.empty()) {
            auto* argument = made->add_option("argument", options_.argument);
            if (!command.argument.starts_with('[')) argument->required();
        }
        made_.emplace_back(made, &command);
    }

    [[nodiscard]] const Command* chosen() const {
        for (const auto& [made, command] : made_)
            if (made->parsed()) return command;
        return nullptr;
    }

    /// What CLI11 says, or better: which command was meant.
    [[nodiscard]] std::string complaint(const CLI::ParseError& error) const {
        constexpr std::string_view more = "\n'promwarden --help' lists the commands";
        const auto rest = app_.remaining(true);
        if (chosen() == nullptr && !rest.empty() && !rest.front().starts_with('-')) {
            std::vector<std::string_view> names;
            for (const auto& command : commands) names.push_back(first_word(command));
            return fmt::format("unknown command '{}'{}{}", render::printable(rest.front()), meant(rest.front(), names), more);
        }
        const auto given = app_.get_subcommands();
        if (chosen() == nullptr && rest.empty() && given.empty()) return fmt::format("a command is missing{}", more);
        if (chosen() == nullptr && rest.empty()) return fmt::format("'{}' alone is no command{}", given.front()->get_name(), more);
        const auto* command = chosen();
        if (command == nullptr) return fmt::format("{}{}", render::printable(error.what()), more);
        const bool missing = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
        const auto what = missing ? fmt::format("{} is missing", command->argument) : render::printable(error.what());
        return fmt::format("{}\n'promwarden {} --help' has the options", what, command->name);
    }

    CLI::App app_;
    std::map<std::string_view, CLI::App*> groups_;  // "policy", "access user"
    Options options_;
    Words words_;
    std::vector<std::pair<CLI::App*, const Command*>> made_;
};

}  // namespace

Or<Invocation> parse(int count, char** words) {
    try {
        return Parser().parse(count, words);
    } catch (const CLI::Error& error) {
        return failure(Exit::usage, error.what());
    }
}

}  // namespace promwarden::cli
