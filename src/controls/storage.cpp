// Family data: what lies below the database.

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "named_files.hpp"

namespace promwarden {

namespace {

std::string names(const std::vector<StorageLeaf>& leaves, bool sealed) {
    std::vector<std::string> all;
    for (const auto& leaf : leaves)
        if (leaf.sealed_by.empty() != sealed) all.push_back(sealed ? fmt::format("{} by {}", leaf.device, leaf.sealed_by) : leaf.device);
    return fmt::format("{}", fmt::join(all, ", "));
}

bool all_sealed(const std::vector<StorageLeaf>& leaves) { return !leaves.empty() && std::ranges::none_of(leaves, [](const StorageLeaf& leaf) { return leaf.sealed_by.empty(); }); }

/// Whether dm-crypt is what encrypts it: with cipher_null it would not, and only the table of the device, which holds its key, says with which cipher.
bool by_mapper(const std::vector<StorageLeaf>& leaves) {
    return std::ranges::any_of(leaves, [](const StorageLeaf& leaf) { return leaf.sealed_by.contains("(CRYPT-"); });
}

std::string perhaps_null(const std::string& subject, const std::vector<StorageLeaf>& leaves) {
    return fmt::format("{} is on {}, and this kernel has cipher_null in use, which encrypts nothing: `cryptsetup status` says whether it is here", subject, names(leaves, true));
}

Finding storage_finding(std::string subject, std::string expected, std::string observed, std::string remedy) {
    return {std::move(subject), std::move(expected), std::move(observed), {}, Evidence::kernel, {false, std::move(remedy)}};
}

}  // namespace

Decision decide_encryption(const Policy& policy, const Facts& facts) {
    if (!policy.data.encryption_required) return not_applicable("the policy does not require it");
    if (!facts.root.empty()) return not_applicable("a mounted image says nothing about the disk it will lie on");
    if (!facts.storage) return unknown(facts.storage.error());
    Findings findings;
    std::vector<std::string> sealed;
    for (const auto& path : facts.storage->paths) {
        if (path.problem) {
            findings.unknown(path.problem->text());
            continue;
        }
        findings.touch();
        if (all_sealed(path.leaves)) {
            if (facts.storage->null_cipher && by_mapper(path.leaves)) findings.unknown(perhaps_null(path.path, path.leaves));
            sealed.push_back(names(path.leaves, true));
            continue;
        }
        findings.fail(storage_finding(path.path, "encryption on every device below it", fmt::format("{} on {} is not encrypted", path.file_system, names(path.leaves, false)),
                                      "move it to a file system on LUKS (cryptsetup luksFormat), or use fscrypt"));
    }
    // Pages of the server may be written to swap, whatever its database lies on.
    if (!facts.storage->paths.empty())
        for (const auto& swap : facts.storage->swaps) {
            if (swap.volatile_memory || (all_sealed(swap.leaves) && !(facts.storage->null_cipher && by_mapper(swap.leaves)))) continue;
            if (all_sealed(swap.leaves)) findings.unknown(perhaps_null(swap.name, swap.leaves));
            else if (swap.problem && swap.leaves.empty()) findings.unknown(swap.problem->text());
            else findings.fail(storage_finding(swap.name, "encrypted swap, or none", fmt::format("swap on {} is not encrypted", names(swap.leaves, false)), fmt::format("swapoff {}; in crypttab(5), option swap encrypts it with a key of each boot", swap.name)));
        }
    std::ranges::sort(sealed);
    sealed.erase(std::ranges::unique(sealed).begin(), sealed.end());
    return std::move(findings).decision(fmt::format("encrypted: {}", fmt::join(sealed, "; ")), "no database was found on this host");
}

}  // namespace promwarden
