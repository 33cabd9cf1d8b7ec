// The command. Everything is in the cli room.

#include "promwarden/cli.hpp"

int main(int count, char** words) { return promwarden::cli::run(count, words); }
