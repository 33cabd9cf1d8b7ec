/// cli — the command `promwarden`: the product's line once, or a question to the agent that runs it in a loop.
///
/// Owns nothing that lasts. One row of a table per command (src/cli/parse.cpp), one file each in src/cli/commands/. What the agent sends is data from a peer: it
/// is checked before it is used and made printable before it is shown. Promises: one exit status for one outcome, whatever the format.
#pragma once

namespace promwarden::cli {

/// The whole program; the value is its exit status.
int run(int count, char** words);

}  // namespace promwarden::cli
