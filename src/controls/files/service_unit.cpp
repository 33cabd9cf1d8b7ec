// systemd's units, and Podman's: how Prometheus is started on the host, or in a container that a unit runs.

#include <algorithm>

#include <fmt/format.h>

#include "deployment.hpp"
#include "promwarden/unit.hpp"

namespace promwarden {

namespace {

using namespace deployment;

bool is_shell(std::string_view program) { return program == "sh" || program.ends_with("/sh") || program.ends_with("bash"); }
bool is_engine(std::string_view program) { return program.ends_with("docker") || program.ends_with("podman"); }

/// The program without the marks that systemd reads before it.
std::string_view program_of(std::string_view word) { return word.substr(std::min(word.find_first_not_of("@-:+!|"), word.size())); }

/// One unit file: its assignments, and where in the text a word of them stands.
class UnitText {
public:
    UnitText(const std::string& path, std::string_view text)
        : cleaned_(prometheus::has_template_marks(text) ? prometheus::without_templates(text)
                                                        : prometheus::Untemplated{std::string(text), {}}),
          assignments(unit::read_assignments(path, cleaned_.text)) {
        for (std::string_view rest = cleaned_.text; !rest.empty();) {
            lines_.push_back(rest.substr(0, rest.find('\n')));
            rest.remove_prefix(std::min(rest.size(), lines_.back().size() + 1));
        }
    }

    /// The word's own line where the assignment goes on over several.
    [[nodiscard]] Spot spot(const unit::Assignment& from, std::string_view word) const {
        Spot spot{from.line, 1, fmt::format("{}.{}", from.section, from.key), {}};
        for (std::size_t i = from.line - 1; i < lines_.size() && !word.empty(); ++i) {
            const auto at = lines_[i].find(word);
            if (at != std::string_view::npos) return {static_cast<std::uint32_t>(i + 1), static_cast<std::uint32_t>(at + 1), spot.path, {}};
            if (!lines_[i].ends_with('\\') && !lines_[i].ends_with("\\\r") && !lines_[i].starts_with('#')) break;
        }
        return spot;
    }

    [[nodiscard]] bool conditional(const Spot& spot) const {
        return spot.line > 0 && spot.line <= cleaned_.conditional.size() && cleaned_.conditional[spot.line - 1];
    }
    [[nodiscard]] bool templated() const { return !cleaned_.conditional.empty(); }

private:
    prometheus::Untemplated cleaned_;
    std::vector<std::string_view> lines_;

public:
    const std::vector<unit::Assignment> assignments;
};

bool filled_later(std::string_view text) {
    return text.find('$') != std::string_view::npos || text.find(prometheus::filled_later) != std::string_view::npos;
}

class Judge {
public:
    Judge(Notes& notes, const UnitText& text) : notes_(notes), text_(text) {}

    void run() {
        for (const auto& each : text_.assignments)
            if (each.section == "Service" && each.key == "ExecStart") start(each);
        quadlet();
        if (!about_) return;
        for (const auto& each : text_.assignments) {
            if (each.section != "Service" && each.section != "Container") continue;
            if (each.key == "Environment") environment(each);
            if (each.section == "Service" && on_host_ && (each.key == "User" || each.key == "DynamicUser")) user(each);
        }
    }

private:
    void start(const unit::Assignment& exec) {
        const auto words = unit::split_words(exec.value);
        if (!words || words->empty()) return;
        const auto program = program_of(words->front());
        if (program.ends_with("prometheus")) return server(exec, *words, 1, true);
        if (is_shell(program)) return script(exec, *words);
        if (is_engine(program)) container(exec, *words);
    }

    void server(const unit::Assignment& exec, std::span<const std::string> words, std::size_t first, bool on_host) {
        about_ = true;
        on_host_ = on_host_ || on_host;
        CommandText command;
        command.on_host = on_host;
        for (const auto& word : words.subspan(first)) {
            const auto spot = text_.spot(exec, word);
            if (word == "\\") continue;
            if (filled_later(word))
                command.whole = false;
            else if (text_.conditional(spot))
                command.whole = false;
            else
                command.words.push_back({word, spot});
        }
        if (text_.templated()) command.whole = false;
        judge_command(notes_, command);
    }

    void script(const unit::Assignment& exec, std::span<const std::string> words) {
        CommandText command;
        command.script = true;
        for (const auto& word : words.subspan(1)) {
            const auto split = unit::split_words(word);
            if (!split ||
                std::ranges::none_of(*split, [](const std::string& each) { return each.ends_with("/prometheus") || each == "prometheus"; }))
                continue;
            for (const auto& each : *split)
                if (each.starts_with("--") && !filled_later(each) &&
                    prometheus::find_flag(std::string_view(each).substr(2, each.find('=') - 2)) != nullptr)
                    command.words.push_back({each, text_.spot(exec, each)});
            about_ = on_host_ = true;
        }
        judge_command(notes_, command);
    }

    /// "docker run -p 9090:9090 prom/prometheus --web.enable-lifecycle"
    void container(const unit::Assignment& exec, std::span<const std::string> words) {
        const auto image =
            std::ranges::find_if(words, [](const std::string& word) { return is_prometheus_image(word) && !word.starts_with('-'); });
        const auto run = std::ranges::find(words, "run");
        if (run == words.end() || image == words.end()) return;
        // "--name prometheus prom/prometheus": the last word that is an image, before what looks like its arguments.
        auto last = image;
        for (auto at = image;
             at != words.end() && !at->starts_with("--config") && !at->starts_with("--web") && !at->starts_with("--storage"); ++at)
            if (is_prometheus_image(*at) && !at->starts_with('-')) last = at;
        const auto options = std::span(run, last);
        const bool host = std::ranges::any_of(
            options, [](const std::string& word) { return word == "--net=host" || word == "--network=host" || word == "host"; });
        server(exec, words, static_cast<std::size_t>(last - words.begin()) + 1, host);
        if (host) return;
        notes_.touch(published, "nothing is published");
        for (auto at = options.begin(); at != options.end(); ++at) {
            if ((*at == "-p" || *at == "--publish") && at + 1 != options.end())
                publication(exec, *++at);
            else if (at->starts_with("--publish="))
                publication(exec, std::string_view(*at).substr(10));
            else if (at->starts_with("-p="))
                publication(exec, std::string_view(*at).substr(3));
        }
    }

    void publication(const unit::Assignment& exec, std::string_view text) {
        judge_publication(notes_, text, !filled_later(text), text_.spot(exec, text), "9090");
    }

    /// Podman's .container files.
    void quadlet() {
        const auto* image = unit::find(text_.assignments, "Container", "Image");
        if (image == nullptr || !is_prometheus_image(image->value)) return;
        about_ = true;
        const auto* network = unit::find(text_.assignments, "Container", "Network");
        const bool host = network != nullptr && network->value == "host";
        if (const auto* exec = unit::find(text_.assignments, "Container", "Exec"))
            if (const auto words = unit::split_words(exec->value)) server(*exec, *words, 0, host);
        if (host) return;
        notes_.touch(published, "nothing is published");
        for (const auto& each : text_.assignments)
            if (each.section == "Container" && each.key == "PublishPort" && !each.value.empty()) publication(each, each.value);
    }

    void environment(const unit::Assignment& each) {
        notes_.touch(secrets, "no secret in the environment");
        const auto words = unit::split_words(each.value);
        if (!words) return;
        for (const auto& word : *words)
            if (const auto equals = word.find('='); equals != std::string::npos) {
                auto spot = text_.spot(each, std::string_view(word).substr(0, equals + 1));
                judge_variable(notes_, std::string_view(word).substr(0, equals), std::string_view(word).substr(equals + 1), spot);
            }
    }

    void user(const unit::Assignment& each) {
        notes_.touch(sandbox, "Prometheus does not run as root");
        if (each.key == "User" && (each.value == "root" || each.value == "0"))
            notes_.fail(sandbox, text_.spot(each, "User"), "a user of its own", "Prometheus runs as root", "write User=prometheus");
    }

    Notes& notes_;
    const UnitText& text_;
    bool about_ = false, on_host_ = false;
};

}  // namespace

std::optional<std::vector<FileDecision>> judge_unit(const InputFile& file, const LintOptions& options) {
    const UnitText text(file.path, file.text);
    const bool unit = std::ranges::any_of(text.assignments, [](const unit::Assignment& each) {
        constexpr std::string_view own[] = {"Exec",  "User",    "Group",           "Type",    "Restart", "Environment", "WorkingDirectory",
                                            "Limit", "Protect", "NoNewPrivileges", "Private", "Image",   "PublishPort"};
        return (each.section == "Service" || each.section == "Container") &&
               std::ranges::any_of(own, [&](std::string_view key) { return each.key.starts_with(key); });
    });
    if (!unit) return std::nullopt;
    Notes notes(file.path, options);
    Judge(notes, text).run();
    return notes.decisions("this unit starts no Prometheus");
}

}  // namespace promwarden
