// What every command is given, and what it says when it is done.
#pragma once

#include "promwarden/state.hpp"
#include "promwarden/render.hpp"

namespace promwarden::cli {

/// The program's exit status.
enum class Exit : std::uint8_t { holds = 0, fails = 1, usage = 2, undetermined = 3, undone = 4, no_agent = 5, denied = 6 };

/// Why a command could not do what it was asked to. The text is printed once, to standard error.
struct Failure {
    Failure(Exit status, std::string words) : exit(status), text(std::move(words)) {}
    Failure(const Error& error);  // NOLINT(google-explicit-constructor): so that TRY passes errors up

    Exit exit;
    std::string text;
};

template <class T = void>
using Or = std::expected<T, Failure>;
using Outcome = Or<Exit>;

inline std::unexpected<Failure> failure(Exit exit, std::string text) { return std::unexpected(Failure(exit, std::move(text))); }

// ---- exit status (exit.cpp, pure) -----------------------------------------------------------------------------------

Exit exit_of(const Error& error);
/// Of an apply that came back with an error: refused, forbidden, or tried and undone.
Exit exit_of_apply(const Error& error);
/// Of an error of the agent's method ("Apply"), by its Varlink name; "" where it gave no answer.
Exit exit_of_call(std::string_view method, const Error& error, std::string_view name);
Exit exit_of(const Report& report, Severity fail_on);
Exit exit_of(const Plan& plan, Severity fail_on);

// ---- the command line -----------------------------------------------------------------------------------------------

struct Options {
    std::string policy = "/etc/promwarden/policy.toml";
    std::string state = "/var/lib/promwarden";
    std::string socket = "/run/promwarden/io.promwarden";
    bool policy_given = false;

    render::Format format = render::Format::text;
    std::string output;             // "": standard output
    std::vector<std::string> only;  // controls that this version decides; empty: all of them
    Severity fail_on = Severity::low;

    std::optional<std::chrono::seconds> confirm_within, since;
    bool force = false, edit_config = false, all = false, rekey = false, until_overlap = false, no_live = false;
    std::string control;   // of history
    std::string argument;  // the positional one; "" where it was left out
    std::vector<std::string> files;  // of lint
    std::string kind;                // of lint; "": what the content suggests
    std::string root;                // of check; "": this host
    std::string role;                // of why-request; "": a stranger. Of access user add; "": what the policy says
};

struct Command;
struct Invocation {
    const Command* command = nullptr;  // null: help or version was asked for, and `text` is it
    Options options;
    std::string text;
};

/// parse.cpp, the only file that knows the library which does it.
Or<Invocation> parse(int count, char** words);

// ---- the commands, one file each in commands/ -----------------------------------------------------------------------

Outcome check(const Options& options);
Outcome plan(const Options& options);
Outcome apply(const Options& options);
Outcome confirm(const Options& options);
Outcome undo(const Options& options);
Outcome status(const Options& options);
Outcome watch(const Options& options);
Outcome history(const Options& options);
Outcome why(const Options& options);
Outcome why_request(const Options& options);
Outcome lint(const Options& options);
Outcome render_nginx(const Options& options);
Outcome policy_check(const Options& options);
Outcome policy_show(const Options& options);
Outcome render_scrape(const Options& options);
Outcome render_rules(const Options& options);
Outcome render_unit(const Options& options);
Outcome render_metrics(const Options& options);
Outcome explain(const Options& options);
Outcome cert_list(const Options& options);
Outcome cert_issue(const Options& options);
Outcome cert_rotate(const Options& options);
Outcome cert_rotate_ca(const Options& options);
Outcome access_user_add(const Options& options);
Outcome access_user_list(const Options& options);
Outcome access_user_remove(const Options& options);

/// What a command takes besides the options of all.
enum Takes : unsigned { nothing = 0, text_or_json = 1, report_format = 2, output = 4, selection = 8, apply_options = 16, undo_options = 32, history_options = 64, lint_options = 128,
                      force_option = 256, rekey_option = 512, overlap_option = 1024, image_option = 2048, request_options = 4096, live_option = 8192, user_options = 16384, edit_option = 32768 };

struct Command {
    std::string_view name;      // "check"; "policy check" is a command of a command, "access user add" one of that
    std::string_view argument;  // "ADDRESS[:PORT]"; in brackets where it may be left out; "" where there is none
    std::string_view help;
    unsigned takes;
    Outcome (*run)(const Options&);
};

}  // namespace promwarden::cli
