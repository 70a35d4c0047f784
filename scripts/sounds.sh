#!/bin/sh
# Makes what callers are told: for each language in sounds/, a file for each line of its prompts.txt by
# espeak-ng, and the tones by sox, as Ogg Opus (RFC 7845). The server has the files within itself, so this
# is needed only when a text changes.
# Usage: scripts/sounds.sh      (apt-get install espeak-ng sox opus-tools)
set -eu
cd "$(dirname "$0")/../sounds"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# As quiet as speech in a conference usually is; the same bytes whenever it is made.
encode() {
    sox -D "$1" -r 48000 -c 1 "$work/level.wav" gain -n -9
    opusenc --quiet --bitrate 24 --serial 1 --padding 0 --discard-comments "$work/level.wav" "$2"
}

for language in */; do
    language=${language%/}
    [ -f "$language/prompts.txt" ] || continue
    while IFS="$(printf '\t')" read -r name text; do
        espeak-ng -v "$language" -s 155 -w "$work/said.wav" "$text"
        # The silence that espeak-ng leaves around a text.
        sox -D "$work/said.wav" "$work/cut.wav" silence 1 0.01 0.5% reverse silence 1 0.01 0.5% \
            pad 0.03 reverse pad 0 0.08
        encode "$work/cut.wav" "$language/$name.opus"
    done < "$language/prompts.txt"
done

mkdir -p tones
tone() {
    name=$1
    shift
    sox -D -r 48000 -b 16 -n "$work/tone.wav" synth "$@"
    sox -D "$work/tone.wav" -b 16 "$work/low.wav" gain -n -20
    opusenc --quiet --bitrate 24 --serial 1 --padding 0 --discard-comments "$work/low.wav" "tones/$name.opus"
}
# Up when somebody comes, down when somebody goes, and once in a while to those who wait.
tone entered 0.12 sine 660 vol 0.8 fade q 0.01 0.12 0.03 : synth 0.16 sine 880 vol 0.8 fade q 0.01 0.16 0.06
tone left 0.12 sine 660 vol 0.8 fade q 0.01 0.12 0.03 : synth 0.16 sine 495 vol 0.8 fade q 0.01 0.16 0.06
tone waiting 0.5 sine 440 fade q 0.1 0.5 0.3
