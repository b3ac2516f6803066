// Expects that misuse of a pointer is reported: one line on stderr that names the address, then
// abort.
#pragma once

#include "scale.hpp"

#include <gtest/gtest.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <ostream>
#include <string>

#if defined(__unix__) || defined(__APPLE__)
#    include <unistd.h>
#endif

namespace binmalloc_test {

namespace misuse_detail {

/// What qemu says of a program that aborts.
inline const std::string last_words = emulated ? "(qemu: uncaught target signal 6 [^\n]*\n)?" : "";

// GoogleTest's own regular expressions, which it has on Windows, know no brackets.
#if defined(_WIN32)
inline const std::string some_text = ".*";
inline const std::string some_digits = "\\w+";
#else
inline const std::string some_text = "[^\n]+: ";
inline const std::string some_digits = "[0-9a-f]+";
#endif

/// A regular expression for all that may be on stderr.
inline std::string report_with(const std::string& digits)
{
    return "^binmalloc: " + some_text + "0x" + digits + "\n" + last_words + "$";
}

/// A line with an address, and the report of just that.
class report_of_announced : public testing::MatcherInterface<const std::string&> {
public:
    bool MatchAndExplain(const std::string& output, testing::MatchResultListener*) const override
    {
        const std::string address = output.substr(0, output.find('\n') + 1);
        std::string report = output.substr(address.size());
        if (emulated) report = report.substr(0, report.find("qemu: "));
        const std::string begin = "binmalloc: ";
        return report.size() > begin.size() + address.size() + 2 && report.rfind(begin, 0) == 0
               && report.find('\n') == report.size() - 1
               && report.substr(report.size() - address.size() - 2) == ": " + address;
    }
    void DescribeTo(std::ostream* out) const override
    {
        *out << "an address, and a line that begins with `binmalloc: ` and ends with it";
    }
};

template <class Report, class Misuse>
void expect(const Report& report, Misuse misuse)
{
    const auto in_time = [&] {
#if defined(__unix__) || defined(__APPLE__)
        ::alarm(30); // a list with a ring in it has no end
#endif
        misuse();
    };
#if defined(_WIN32)
    const testing::ExitedWithCode by_abort(3);
#else
    const testing::KilledBySignal by_abort(SIGABRT);
#endif
    EXPECT_EXIT(in_time(), by_abort, report);
}

} // namespace misuse_detail

/// All the digits that an address may have.
inline std::string digits_of(const void* p)
{
    std::array<char, 2 * sizeof p + 1> digits{};
    std::snprintf(digits.data(), digits.size(), "%0*zx", static_cast<int>(2 * sizeof p),
                  static_cast<std::size_t>(reinterpret_cast<std::uintptr_t>(p)));
    return digits.data();
}

/// Runs `misuse` in a process of its own and expects the report of a pointer that `make` gives there:
/// nothing but `misuse` comes after it.
template <class Make, class Misuse>
void expect_report_of_new(Make make, Misuse misuse)
{
    const auto announced = [&] {
        const auto p = make();
        std::fprintf(stderr, "0x%s\n", digits_of(p).c_str());
        misuse(p);
    };
    misuse_detail::expect(testing::MakeMatcher(new misuse_detail::report_of_announced), announced);
}

/// Runs `misuse` in a process of its own and expects the report of `p`. A free that is to be
/// reported belongs into it with all that leads to it: where malloc is overridden, whatever the test
/// framework does between may be given a freed block.
template <class Misuse>
void expect_report(const void* p, Misuse misuse)
{
#if defined(_WIN32)
    // The process is not a fork of this one, but gets there anew: its `p` is another.
    expect_report_of_new([p] { return p; }, [&](const void*) { misuse(); });
#else
    misuse_detail::expect(misuse_detail::report_with(digits_of(p)), misuse);
#endif
}

} // namespace binmalloc_test
