# perl_words.pl LINES: splits, counts, groups and rewrites the words of a generated text.
# To be run with PERL_HASH_SEED=0, so that every run hashes alike.
use strict;
use warnings;

my ($line_count) = @ARGV;

# A linear congruential generator: rand() is not the same in every version of perl.
my $state = 42;
sub next_number { $state = ($state * 1103515245 + 12345) & 0x7fffffff; return $state >> 8; }

my @syllables = qw(ba ce di fo gu ha ki lo mu ne pa ri so tu ve xa zo);
sub make_word {
    return join '', map { $syllables[next_number() % @syllables] } 1 .. 1 + next_number() % 6;
}

my (%count, %lines_with, @text);
for my $line (1 .. $line_count) {
    my @words = map { make_word() } 1 .. 3 + next_number() % 12;
    push @text, join ' ', @words;
    for my $word (@words) {
        $count{$word}++;
        push @{ $lines_with{$word} }, $line;
    }
}

my @by_count = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
printf "%d lines, %d words\n", scalar @text, scalar @by_count;
printf "%s %d %d\n", $_, $count{$_}, scalar @{ $lines_with{$_} } for @by_count[0 .. 9];

# Rewriting makes every string longer or shorter, so that most move.
for my $line (@text) {
    $line =~ s/\b(\w)(\w*)\b/\u$1$2-/g;
    $line =~ s/(ba|so|tu)+/<$1>/g;
    $line = reverse $line if length($line) % 2;
}
my $joined = join "\n", @text;
printf "%d characters, checksum %d\n", length $joined, unpack '%32C*', $joined;

delete @lines_with{ grep { $count{$_} < 3 } keys %count };
my %by_length;
push @{ $by_length{ length $_ } }, $_ for sort keys %lines_with;
for my $length (sort { $a <=> $b } keys %by_length) {
    printf "length %d: %d words\n", $length, scalar @{ $by_length{$length} };
}
