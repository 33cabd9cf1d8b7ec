// Packed, sorted keys: what a set of the kernel holds.

#include <algorithm>
#include <bit>
#include <map>

#include "promwarden/address.hpp"

namespace promwarden {

namespace {

/// Sorting whole integers is several times faster than comparing byte strings.
std::vector<std::uint8_t> sorted_words(std::vector<std::uint8_t> bytes) {
    if (bytes.empty()) return bytes;
    std::vector<std::uint32_t> words(bytes.size() / 4);
    std::memcpy(words.data(), bytes.data(), bytes.size());
    for (auto& word : words) word = std::byteswap(word);
    if (!std::ranges::is_sorted(words)) std::ranges::sort(words);
    words.erase(std::unique(words.begin(), words.end()), words.end());
    for (auto& word : words) word = std::byteswap(word);
    bytes.resize(words.size() * 4);
    std::memcpy(bytes.data(), words.data(), bytes.size());
    return bytes;
}

std::vector<std::uint8_t> sorted_blocks(std::vector<std::uint8_t> bytes) {
    if (bytes.empty()) return bytes;
    std::vector<std::array<std::uint64_t, 2>> blocks(bytes.size() / 16);
    std::memcpy(blocks.data(), bytes.data(), bytes.size());
    const auto swap = [](auto& block) { block = {std::byteswap(block[0]), std::byteswap(block[1])}; };
    std::ranges::for_each(blocks, swap);
    if (!std::ranges::is_sorted(blocks)) std::ranges::sort(blocks);
    blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
    std::ranges::for_each(blocks, swap);
    bytes.resize(blocks.size() * 16);
    std::memcpy(bytes.data(), blocks.data(), bytes.size());
    return bytes;
}

/// The first position, at or after both, where the two differ; a multiple of the width.
std::size_t equal_stretch(const std::uint8_t* left, std::size_t left_size, const std::uint8_t* right, std::size_t right_size, std::size_t width) {
    constexpr std::size_t block = 4096;
    const auto common = std::min(left_size, right_size);
    std::size_t at = 0;
    while (at + block <= common && std::memcmp(left + at, right + at, block) == 0) at += block;
    while (at + width <= common && std::memcmp(left + at, right + at, width) == 0) at += width;
    return at;
}

}  // namespace

PackedKeys::PackedKeys(std::size_t width, std::vector<std::uint8_t> bytes)
    : width_(width), bytes_(width == 4 ? sorted_words(std::move(bytes)) : sorted_blocks(std::move(bytes))) {}

bool PackedKeys::contains(std::span<const std::uint8_t> key) const {
    std::size_t low = 0, high = size();
    while (low < high) {
        const auto middle = low + (high - low) / 2;
        const int order = std::memcmp(bytes_.data() + middle * width_, key.data(), width_);
        if (order == 0) return true;
        (order < 0 ? low : high) = order < 0 ? middle + 1 : middle;
    }
    return false;
}

PackedKeys PackedKeys::minus(const PackedKeys& other) const {
    PackedKeys result(width_);
    std::size_t mine = 0, theirs = 0;
    const auto& right = other.bytes_;
    while (mine < bytes_.size()) {
        const auto same = equal_stretch(bytes_.data() + mine, bytes_.size() - mine, right.data() + theirs, right.size() - theirs, width_);
        mine += same;
        theirs += same;
        if (mine >= bytes_.size()) break;
        const int order = theirs >= right.size() ? -1 : std::memcmp(bytes_.data() + mine, right.data() + theirs, width_);
        if (order < 0) {
            result.bytes_.insert(result.bytes_.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(mine), bytes_.begin() + static_cast<std::ptrdiff_t>(mine + width_));
            mine += width_;
        } else {
            theirs += width_;
        }
    }
    return result;
}

PackedKeys PackedKeys::changed(const PackedKeys& removed, const PackedKeys& added) const {
    // Each key of a small change is placed by binary search; everything between is copied whole.
    PackedKeys kept(width_);
    kept.bytes_.reserve(bytes_.size() + added.bytes_.size());
    const auto position = [](const PackedKeys& keys, std::span<const std::uint8_t> key) {
        std::size_t low = 0, high = keys.size();
        while (low < high) {
            const auto middle = low + (high - low) / 2;
            (std::memcmp(keys.bytes_.data() + middle * keys.width_, key.data(), keys.width_) < 0 ? low : high) =
                std::memcmp(keys.bytes_.data() + middle * keys.width_, key.data(), keys.width_) < 0 ? middle + 1 : middle;
        }
        return low;
    };
    std::size_t copied = 0;
    const auto copy_until = [&](std::size_t index) {
        if (index <= copied) return;
        kept.bytes_.insert(kept.bytes_.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(copied * width_), bytes_.begin() + static_cast<std::ptrdiff_t>(index * width_));
        copied = index;
    };
    std::size_t out = 0, in = 0;
    while (out < removed.size() || in < added.size()) {
        const bool take_removed = in >= added.size() || (out < removed.size() && std::memcmp(removed[out].data(), added[in].data(), width_) <= 0);
        const auto key = take_removed ? removed[out] : added[in];
        const auto index = position(*this, key);
        const bool present = index < size() && std::memcmp((*this)[index].data(), key.data(), width_) == 0;
        copy_until(index);
        if (take_removed) {
            if (present) copied = std::max(copied, index + 1);
            ++out;
        } else {
            if (!present || copied > index) kept.bytes_.insert(kept.bytes_.end(), key.begin(), key.end());
            ++in;
        }
    }
    copy_until(size());
    return kept;
}

bool NetworkClass::operator==(const NetworkClass& other) const {
    return family == other.family && prefix == other.prefix && (networks == other.networks || *networks == *other.networks);
}

Networks make_networks(std::span<const Cidr> cidrs) {
    std::map<std::pair<Family, int>, std::vector<std::uint8_t>> classes;  // by negative prefix: long ones first
    for (const auto& cidr : cidrs) {
        auto& bytes = classes[{cidr.address.family, -cidr.prefix}];
        const auto packed = cidr.address.packed();
        bytes.insert(bytes.end(), packed.begin(), packed.end());
    }
    Networks networks;
    for (auto& [key, bytes] : classes)
        networks.push_back({key.first, static_cast<std::uint8_t>(-key.second), std::make_shared<PackedKeys>(width_of(key.first), std::move(bytes))});
    return networks;
}

std::size_t count(const Networks& networks) {
    std::size_t total = 0;
    for (const auto& one : networks) total += one.networks->size();
    return total;
}

std::optional<Cidr> find(const Networks& networks, const Address& address) {
    for (const auto& one : networks) {  // long prefixes come first
        if (one.family != address.family) continue;
        const auto masked = address.masked(one.prefix);
        if (one.networks->contains(masked.packed())) return Cidr{masked, one.prefix};
    }
    return std::nullopt;
}

}  // namespace promwarden
