#include "promwarden/cli.hpp"

#include <csignal>

#include "command.hpp"
#include "output.hpp"

namespace promwarden::cli {

namespace {

Outcome carry_out(int count, char** words) {
    const auto invocation = TRY(parse(count, words));
    if (invocation.command != nullptr) return invocation.command->run(invocation.options);
    TRY(write_result(invocation.options, invocation.text));
    return Exit::holds;
}

}  // namespace

int run(int count, char** words) {
    ::signal(SIGPIPE, SIG_IGN);  // a reader that went away is an error of write
    const auto outcome = carry_out(count, words);
    if (outcome) return static_cast<int>(*outcome);
    note(outcome.error().text);
    return static_cast<int>(outcome.error().exit);
}

}  // namespace promwarden::cli
