// word_index DIRECTORY [THREADS]
//
// Indexes the words of all files below DIRECTORY: which word stands in which file, how
// often. An ordinary program of node containers and strings, built in three ways that
// must print the same:
//
//   g++ word_index.cpp                                   std::allocator
//   g++ -DBINMALLOC_OVERRIDE_NEW_DELETE word_index.cpp   the same, operator new is binmalloc
//   g++ -DWORD_INDEX_TYPED=1 word_index.cpp              containers on binmalloc::allocator<T>
//
// Each thread indexes its share of the files by itself; the main thread then merges and
// destroys what the others allocated, which is the hard case for an allocator.

#ifndef WORD_INDEX_TYPED
#    define WORD_INDEX_TYPED 0
#endif

#if WORD_INDEX_TYPED || defined(BINMALLOC_OVERRIDE_NEW_DELETE)
#    include <binmalloc/binmalloc.hpp>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

#if WORD_INDEX_TYPED
template <class T>
using allocator = binmalloc::allocator<T>;
#else
template <class T>
using allocator = std::allocator<T>;
#endif

using string = std::basic_string<char, std::char_traits<char>, allocator<char>>;
template <class T>
using vector = std::vector<T, allocator<T>>;
template <class T>
using list = std::list<T, allocator<T>>;
template <class Key, class Value>
using ordered_map = std::map<Key, Value, std::less<>, allocator<std::pair<const Key, Value>>>;

/// Finds by string_view, so that only a word's first sight makes a string.
struct text_hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept
    {
        return std::hash<std::string_view>{}(text);
    }
};
template <class Key, class Value>
using hash_map = std::unordered_map<Key, Value, text_hash, std::equal_to<>,
                                    allocator<std::pair<const Key, Value>>>;

struct posting {
    std::uint32_t file;
    std::uint32_t count;
};

/// The files of one thread. Its words are in no order, each word's postings in file order.
struct partial_index {
    hash_map<string, list<posting>> words;
    std::uint64_t bytes = 0;
};

using word_index = ordered_map<string, list<posting>>;

// Not std::isalnum: the same words in every locale, and no call per byte.
constexpr bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

template <class Function>
void for_each_word(std::string_view text, Function function)
{
    for (auto at = text.begin(); at != text.end();) {
        const auto begin = std::find_if(at, text.end(), is_word_char);
        at = std::find_if_not(begin, text.end(), is_word_char);
        if (begin != at) function(std::string_view(begin, at));
    }
}

/// In the order of their names, because a directory's own order differs between machines.
vector<std::filesystem::path> files_below(const char* directory)
{
    vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory))
        if (entry.is_regular_file()) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

string read_file(const std::filesystem::path& path)
{
    string text(std::filesystem::file_size(path), '\0');
    std::ifstream stream(path, std::ios::binary);
    if (!stream.read(text.data(), static_cast<std::streamsize>(text.size())))
        throw std::runtime_error("cannot read " + path.string());
    return text;
}

void add_file(partial_index& index, std::uint32_t file, const std::filesystem::path& path)
{
    const string text = read_file(path);
    index.bytes += text.size();

    hash_map<string, std::uint32_t> counts;
    for_each_word(text, [&](std::string_view word) {
        auto found = counts.find(word);
        if (found == counts.end()) found = counts.emplace(string(word), 0).first;
        ++found->second;
    });
    for (const auto& [word, count] : counts) index.words[word].push_back({file, count});
}

/// Every `step`-th file from `first`, so that each thread gets large and small ones.
partial_index index_files(const vector<std::filesystem::path>& files, std::size_t first,
                          std::size_t step)
{
    partial_index index;
    for (std::size_t i = first; i < files.size(); i += step)
        add_file(index, static_cast<std::uint32_t>(i), files[i]);
    return index;
}

vector<partial_index> index_in_threads(const vector<std::filesystem::path>& files,
                                       std::size_t thread_count)
{
    vector<partial_index> parts(thread_count);
    vector<std::exception_ptr> errors(thread_count);
    {
        vector<std::jthread> threads;
        for (std::size_t t = 0; t < thread_count; ++t)
            threads.emplace_back([&, t] {
                try {
                    parts[t] = index_files(files, t, thread_count);
                } catch (...) {
                    errors[t] = std::current_exception();
                }
            });
    }
    for (const std::exception_ptr& error : errors)
        if (error) std::rethrow_exception(error);
    return parts;
}

word_index merge(vector<partial_index> parts)
{
    word_index whole;
    for (partial_index& part : parts) {
        for (auto& [word, postings] : part.words)
            whole[word].merge(postings, [](posting a, posting b) { return a.file < b.file; });
        part = {}; // as soon as it is merged: the peak is one index, not two
    }
    return whole;
}

std::uint64_t total_count(const list<posting>& postings)
{
    std::uint64_t total = 0;
    for (const posting& p : postings) total += p.count;
    return total;
}

/// FNV-1a over the whole index, so that equal output means equal content.
std::uint64_t checksum(const word_index& index)
{
    std::uint64_t hash = 0xcbf29ce484222325;
    const auto add = [&hash](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3; };
    for (const auto& [word, postings] : index) {
        for (const char c : word) add(static_cast<unsigned char>(c));
        for (const posting& p : postings) {
            add(p.file);
            add(p.count);
        }
    }
    return hash;
}

void print_most_frequent(const word_index& index, std::size_t limit)
{
    vector<std::pair<std::uint64_t, const word_index::value_type*>> by_count;
    for (const auto& entry : index) by_count.emplace_back(total_count(entry.second), &entry);

    // Equal counts stay in the words' order: a sort by address would differ in each run.
    std::stable_sort(by_count.begin(), by_count.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    for (const auto& [count, entry] : by_count) {
        if (limit-- == 0) break;
        std::printf("%10llu in %6zu files  %s\n", static_cast<unsigned long long>(count),
                    entry->second.size(), entry->first.c_str());
    }
}

void run(const char* directory, std::size_t thread_count)
{
    const vector<std::filesystem::path> files = files_below(directory);
    vector<partial_index> parts = index_in_threads(files, thread_count);
    std::uint64_t bytes = 0;
    for (const partial_index& part : parts) bytes += part.bytes;

    const word_index index = merge(std::move(parts));
    std::printf("files %zu, bytes %llu, words %zu, checksum %016llx\n", files.size(),
                static_cast<unsigned long long>(bytes), index.size(),
                static_cast<unsigned long long>(checksum(index)));
    print_most_frequent(index, 20);
}

} // namespace

int main(int argc, char** argv)
try {
    if (argc < 2 || argc > 3) {
        std::fputs("usage: word_index DIRECTORY [THREADS]\n", stderr);
        return 2;
    }
    run(argv[1], argc == 3 ? std::max(1ul, std::strtoul(argv[2], nullptr, 10)) : 1);
} catch (const std::exception& error) {
    std::fprintf(stderr, "word_index: %s\n", error.what());
    return 1;
}
