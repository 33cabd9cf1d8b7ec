// lint — the controls that files alone can decide, for whoever keeps configuration in a repository.

#include <fmt/format.h>

#include "local.hpp"
#include "output.hpp"
#include "promwarden/lint.hpp"

namespace promwarden::cli {

namespace {

constexpr std::size_t largest_file = 64 << 20;
constexpr std::size_t most_files = 10'000;

Or<std::vector<InputFile>> read_all(const std::vector<std::string>& paths) {
    if (paths.size() > most_files) return failure(Exit::usage, fmt::format("more than {} files", most_files));
    std::vector<InputFile> files;
    for (const auto& path : paths) {
        // Whose file it is does not matter: it is judged, not obeyed.
        auto file = read_file(path, largest_file);
        if (!file) return failure(file.error().code == Code::denied ? Exit::denied : Exit::usage, render::printable(file.error().text()));
        files.push_back({path, std::move(file->text)});
    }
    return files;
}

}  // namespace

Outcome lint(const Options& options) {
    LintOptions wish;
    wish.only = options.only;
    if (!options.kind.empty()) {
        wish.as = prometheus::file_kind(options.kind);
        if (!wish.as) return failure(Exit::usage, fmt::format("--as {}: no such kind of file", render::printable(options.kind)));
    }
    std::optional<Candidate> candidate;
    if (options.policy_given) {
        candidate = TRY(load_policy(options.policy));
        wish.policy = &candidate->policy;
    }
    const auto files = TRY(read_all(options.files));
    return show(options, promwarden::lint(files, wish, std::chrono::system_clock::now()));
}

}  // namespace promwarden::cli
