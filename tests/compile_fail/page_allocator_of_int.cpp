// expect: page_source
// Pages come from a page source, whatever else a type may be.
#include <binmalloc/binmalloc.hpp>

int main() { binmalloc::basic_page_allocator<int> pages; }
