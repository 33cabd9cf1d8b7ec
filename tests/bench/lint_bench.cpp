// How long a 10 MB prometheus.yml takes: reading it, and judging it.

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "promwarden/lint.hpp"

using namespace promwarden;

namespace {

const std::string& ten_megabytes() {
    static const auto text = [] {
        std::string built = "global:\n  scrape_interval: 15s\nscrape_configs:\n";
        for (int i = 0; built.size() < 10'000'000; ++i)
            built += fmt::format(
                "  - job_name: 'node-{0}'\n    scheme: https\n    metrics_path: /metrics\n    basic_auth:\n      username: prom\n      password_file: /etc/prometheus/secrets/{0}\n"
                "    static_configs:\n      - targets: ['10.0.{1}.1:9100', '10.0.{1}.2:9100']\n        labels:\n          env: production\n          dc: \"fra{0}\"\n"
                "    relabel_configs:\n      - source_labels: [__address__]\n        regex: '([^:]+):{0}'\n        target_label: instance\n        replacement: ${{1}}\n",
                i, i % 250);
        return built;
    }();
    return text;
}

void read(benchmark::State& state) {
    for ([[maybe_unused]] auto _ : state) benchmark::DoNotOptimize(prometheus::read_document("prometheus.yml", ten_megabytes()));
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(ten_megabytes().size()));
}

void read_and_judge(benchmark::State& state) {
    for ([[maybe_unused]] auto _ : state) {
        const auto document = prometheus::read_document("prometheus.yml", ten_megabytes());
        benchmark::DoNotOptimize(judge(std::span(&document, 1)));
    }
}

BENCHMARK(read)->Unit(benchmark::kMillisecond);
BENCHMARK(read_and_judge)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
