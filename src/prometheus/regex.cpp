// The only file that knows RE2: the library whose syntax and linear time Prometheus' relabelling has, too.

#include <re2/re2.h>

#include "promwarden/prometheus.hpp"

namespace promwarden::prometheus {

std::optional<std::vector<bool>> matches(std::string_view expression, std::span<const std::string_view> texts) {
    if (expression.size() > 64 * 1024) return std::nullopt;
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(1 << 20);
    options.set_dot_nl(true);
    const re2::RE2 compiled(re2::StringPiece(expression.data(), expression.size()), options);
    if (!compiled.ok()) return std::nullopt;
    std::vector<bool> answers;
    for (const auto text : texts) answers.push_back(re2::RE2::FullMatch(re2::StringPiece(text.data(), text.size()), compiled));
    return answers;
}

}  // namespace promwarden::prometheus
