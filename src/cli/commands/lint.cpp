// lint — the controls that files alone can decide, for whoever keeps configuration in a repository.

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <unistd.h>

#include "local.hpp"
#include "output.hpp"
#include "promwarden/deployment.hpp"
#include "promwarden/lint.hpp"

namespace promwarden::cli {

namespace {

constexpr std::size_t largest_file = 64 << 20, largest_neighbour = 1 << 20;
constexpr std::size_t most_files = 10'000;
constexpr std::string_view standard_input = "-", kinds = "prometheus, scrape-configs, web, rules, http-client, targets, nginx, oauth2-proxy, compose or unit";

Or<std::string> read_standard_input() {
    std::string text;
    std::array<char, 1 << 16> part{};
    for (;;) {
        const auto size = ::read(STDIN_FILENO, part.data(), part.size());
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return std::unexpected(Failure(fail_errno("read", "standard input").error()));
        if (size == 0) return text;
        text.append(part.data(), static_cast<std::size_t>(size));
        if (text.size() > largest_file) return failure(Exit::usage, fmt::format("standard input: longer than {} MiB", largest_file >> 20));
    }
}

/// What lies beside a Compose file and has a word in what it says. What is not there, or cannot be read, says nothing.
void read_neighbours(const InputFile& file, std::vector<InputFile>& beside) {
    for (const auto& path : compose_neighbours(file))
        if (auto text = read_file(path, largest_neighbour)) beside.push_back({path, std::move(text->text)});
}

struct Texts {
    std::vector<InputFile> files, beside;
};

Or<Texts> read_all(const std::vector<std::string>& paths) {
    if (paths.size() > most_files) return failure(Exit::usage, fmt::format("more than {} files", most_files));
    if (std::ranges::count(paths, standard_input) > 1) return failure(Exit::usage, "standard input can be read only once");
    Texts texts;
    for (const auto& path : paths) {
        if (path == standard_input) {
            texts.files.push_back({"stdin", TRY(read_standard_input())});
            continue;
        }
        // Whose file it is does not matter: it is judged, not obeyed.
        auto file = read_file(path, largest_file);
        if (!file) return failure(file.error().code == Code::denied ? Exit::denied : Exit::usage, render::printable(file.error().text()));
        texts.files.push_back({path, std::move(file->text)});
        read_neighbours(texts.files.back(), texts.beside);
    }
    return texts;
}

}  // namespace

Outcome lint(const Options& options) {
    LintOptions wish;
    wish.only = options.only;
    if (!options.kind.empty()) {
        wish.as = prometheus::file_kind(options.kind);
        if (!wish.as) return failure(Exit::usage, fmt::format("--as {}: no such kind of file; it is one of {}", render::printable(options.kind), kinds));
    }
    std::optional<Candidate> candidate;
    if (options.policy_given) {
        candidate = TRY(load_policy(options.policy));
        wish.policy = &candidate->policy;
    }
    const auto texts = TRY(read_all(options.files));
    const auto report = promwarden::lint(texts.files, texts.beside, wish, std::chrono::system_clock::now());
    if (options.format != render::Format::text) return show(options, report);
    TRY(write_result(options, render::lint_text(report, texts.files.size(), in_colour(options))));
    return exit_of(report, options.fail_on);
}

}  // namespace promwarden::cli
