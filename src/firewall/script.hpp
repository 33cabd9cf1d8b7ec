// The shortest way from one list of rules to another.
#pragma once

#include <span>
#include <vector>

#include "promwarden/ruleset.hpp"

namespace promwarden::firewall {

struct ScriptStep {
    enum class Kind : std::uint8_t { keep, remove, add } kind;
    std::size_t index;  // into the old rules for keep and remove, into the new ones for add
};

/// Steps in the order of the resulting list: what is removed is named where it stood. `same` decides whether an old rule may stay.
template <class Same>
std::vector<ScriptStep> script(std::size_t old_size, std::size_t new_size, const Same& same) {
    // Longest common subsequence, after the common ends are cut off: a chain that changes in one place costs one comparison a rule.
    std::size_t head = 0, tail = 0;
    while (head < old_size && head < new_size && same(head, head)) ++head;
    while (tail < old_size - head && tail < new_size - head && same(old_size - 1 - tail, new_size - 1 - tail)) ++tail;
    const auto rows = old_size - head - tail, columns = new_size - head - tail;
    std::vector<std::vector<std::size_t>> length(rows + 1, std::vector<std::size_t>(columns + 1, 0));
    for (auto i = rows; i-- > 0;)
        for (auto j = columns; j-- > 0;)
            length[i][j] = same(head + i, head + j) ? length[i + 1][j + 1] + 1 : std::max(length[i + 1][j], length[i][j + 1]);

    std::vector<ScriptStep> steps;
    for (std::size_t i = 0; i < head; ++i) steps.push_back({ScriptStep::Kind::keep, i});
    std::size_t i = 0, j = 0;
    while (i < rows || j < columns) {
        if (i < rows && j < columns && same(head + i, head + j)) {
            steps.push_back({ScriptStep::Kind::keep, head + i++});
            ++j;
        } else if (i < rows && (j == columns || length[i + 1][j] >= length[i][j + 1])) {
            steps.push_back({ScriptStep::Kind::remove, head + i++});
        } else {
            steps.push_back({ScriptStep::Kind::add, head + j++});
        }
    }
    for (std::size_t k = 0; k < tail; ++k) steps.push_back({ScriptStep::Kind::keep, old_size - tail + k});
    return steps;
}

}  // namespace promwarden::firewall
