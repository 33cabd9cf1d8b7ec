#include <doctest/doctest.h>

#include "promwarden/diff.hpp"

using promwarden::unified_diff;

TEST_CASE("equal texts have no difference") {
    CHECK(unified_diff("a\n", "a\n", "/x").empty());
    CHECK(unified_diff("", "", "/x").empty());
}

TEST_CASE("a changed line stands with three lines of context") {
    CHECK(unified_diff("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n", "/etc/x") ==
          "--- a/etc/x\n+++ b/etc/x\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
}

TEST_CASE("changes that are far from each other are two hunks, near ones are one") {
    const std::string_view before = "a\n1\n2\n3\n4\n5\n6\n7\nb\n";
    CHECK(unified_diff(before, "A\n1\n2\n3\n4\n5\n6\n7\nB\n", "/x") == "--- a/x\n+++ b/x\n@@ -1,4 +1,4 @@\n-a\n+A\n 1\n 2\n 3\n@@ -6,4 +6,4 @@\n 5\n 6\n 7\n-b\n+B\n");
    CHECK(unified_diff("a\n1\n2\n3\nb\n", "A\n1\n2\n3\nB\n", "/x") == "--- a/x\n+++ b/x\n@@ -1,5 +1,5 @@\n-a\n+A\n 1\n 2\n 3\n-b\n+B\n");
}

TEST_CASE("a file that is new or gone") {
    CHECK(unified_diff("", "a\nb\n", "/x") == "--- /dev/null\n+++ b/x\n@@ -0,0 +1,2 @@\n+a\n+b\n");
    CHECK(unified_diff("a\n", "", "/x") == "--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n");
}

TEST_CASE("a last line without an end says so") {
    CHECK(unified_diff("a", "a\n", "/x") == "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
}

TEST_CASE("an inserted line counts on one side only") {
    CHECK(unified_diff("1\n2\n", "1\nx\n2\n", "/x") == "--- a/x\n+++ b/x\n@@ -1,2 +1,3 @@\n 1\n+x\n 2\n");
}

TEST_CASE("a line that hides something is no context, and keeps only its place where it is changed") {
    const auto hides = [](std::string_view line) { return line.contains("hunter2"); };
    CHECK(unified_diff("1\npassword: hunter2\n2\n3\n", "1\npassword: hunter2\n2\nthree\n", "/x", hides) == "--- a/x\n+++ b/x\n@@ -3,2 +3,2 @@\n 2\n-3\n+three\n");
    CHECK(unified_diff("  password: hunter2\n", "  password_file: s\n", "/x", hides) == "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-  <hidden>\n+  password_file: s\n");
}

TEST_CASE("texts with nothing in common are replaced as a whole, however long") {
    std::string before, after;
    for (int i = 0; i < 3000; ++i) before += std::to_string(i) + "\n", after += "x" + std::to_string(i) + "\n";
    const auto text = unified_diff(before, after, "/x");
    CHECK(text.find("@@ -1,3000 +1,3000 @@") != std::string::npos);
}
