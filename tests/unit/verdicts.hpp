/// Which verdicts of which controls the cases of a test program produced, for tests/unit/verdicts_test.py: a line each in the file that PROMWARDEN_VERDICTS names.
#pragma once

#include <cstdlib>
#include <fstream>

#include "promwarden/controls.hpp"

namespace promwarden {

inline Decision noted(std::string_view control, Decision decision) {
    if (const char* path = std::getenv("PROMWARDEN_VERDICTS")) std::ofstream(path, std::ios::app) << control << ' ' << to_text(decision.verdict) << '\n';
    return decision;
}

}  // namespace promwarden
