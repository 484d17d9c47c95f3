#!/usr/bin/env bash
# Breaks a copy of the protocol in one place after the other and checks that the loom models notice.
# Takes about half a minute per mutation.
#
#   runtime/tests/mutations.sh [NAME...]
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r "$root/Cargo.toml" "$root/Cargo.lock" "$copy"
mkdir "$copy/runtime"
cp -r "$root"/runtime/{Cargo.toml,src,abi,tests} "$copy/runtime"
[ -e "$root/runtime/build.rs" ] && cp "$root/runtime/build.rs" "$copy/runtime"
cp -r "$root/runtime/include" "$copy/runtime"
# Only the runtime: the other members need LLVM.
sed -i 's/^members = .*/members = ["runtime", "runtime\/abi"]/; /ame-annotations = /d' "$copy/Cargo.toml"
export RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/mutations
files=(protocol gate handoff sharing lease)
mkdir "$copy/original"
for file in "${files[@]}"; do cp "$copy/runtime/src/$file.rs" "$copy/original"; done

# name, and a perl expression on each whole file
mutations=(
  'read_without_fence'      's/(pub fn read\(.*?)mark\.swap\(me\.ver, Ordering::SeqCst\)/$1mark.store(me.ver, Ordering::Release)/s'
  'lock_without_fence'      's/(0, me\.lock_word\(\), )Ordering::SeqCst/$1Ordering::Acquire/g'
  'no_expulsion'            's/if reads\(me, slot, g\) \{/if false \&\& reads(me, slot, g) {/'
  'no_handshake'            's/handshake\(me, slot\);/let _ = handshake;/'
  'any_change_is_an_answer' 's/version\(now\) != version\(state\)/now != state/'
  'answer_without_fence'    's/(pub fn answer_fence.*?)fence\(Ordering::SeqCst\);/$1/s'
  'unfenced_without_fence'  's/unfenced\.store\(1, Ordering::SeqCst\);.*?fence\(Ordering::SeqCst\);/unfenced.store(1, Ordering::Relaxed);/s'
  'begin_without_fence'     's/(participants\(\)\.load\(Ordering::Acquire\) > 1) \{.*?fence\(Ordering::SeqCst\);/$1 {/s; s/(mine\.state\.store\(active, Ordering::Release\);.*?)light_fence\(\);/$1/s; s/(either we see the gate, or it sees our state\.\n\s*)light_fence\(\);/$1/'
  'gate_without_fence'      's/gate\(\)\.swap\(word\(me, 0\), Ordering::SeqCst\);(.*?)heavy_fence\(\);/gate().store(word(me, 0), Ordering::Release);$1/s'
  'gate_does_not_wait'      's/if is_at_rest\(state\) \{\s*return;/if true {\n return;/'
  'turn_without_fence'      's/(if !exchange\(0, closing\).*?)heavy_fence\(\);/$1/s; s/(fn exchange.*?)Ordering::SeqCst/$1Ordering::AcqRel/s'
  'turn_does_not_wait'      's/while slot != me\.slot && !is_at_rest/while false \&\& !is_at_rest/'
  'turn_taken_back_unseen'  's/exchange\(closing, word\(me, TURN\)\)/{ gate().store(word(me, TURN), Ordering::SeqCst); true }/'
  'alone_without_a_turn'    's/true => gate == word\(me, TURN\)/true => { let _ = gate; true }/'
  'together_in_a_turn'      's/false => gate == 0/false => gate == 0 || gate & TURN != 0/'
  'break_without_fence'     's/(let breaking = .*?)heavy_fence\(\);/$1/s; s/(fn exchange.*?)Ordering::SeqCst/$1Ordering::AcqRel/s'
  'break_does_not_wait'     's/await_idle\(me, holder, BREAK_GRACE, BREAK_GRACE\);//'
  'turn_stays_after_pass'   's/exchange\(word\(me, TURN\), TURN \| \(slot \+ 1\)\)/{ let _ = slot; true }/'
  'inevitable_by_store'     's/if mine\s*\.state\s*\.compare_exchange\(from, to, Ordering::SeqCst, Ordering::Acquire\)\s*\.is_err\(\)/mine.state.store(to, Ordering::SeqCst);\n    let _ = from;\n    if false/s'
  'token_is_not_exclusive'  's/while let Err\(holder\) = token\(\)/if let Err(holder) = token()/; s/await_release\(me, holder - 1, want, \|\| \{\s*token\(\).load\(Ordering::Acquire\) == holder\s*\}\)\?;/let _ = holder;/s'
  'dead_marks_count'        's/mark >= version\(state\) && status\(state\) != IDLE/mark >= version(state) || mark != 0/'
  'kept_marks_are_dead'     's/mark >= version\(state\) && status\(state\) != IDLE/mark >= version(state) \&\& !is_at_rest(state)/'
  'kept_marks_of_one'       's/mark >= version\(state\) && status/mark \& !1 == version(state) \&\& status/'
  'held_by_store'           's/let held = peer\(me\.slot\).*?is_ok\(\);/let held = peer(me.slot).state.load(Ordering::Acquire) == from; peer(me.slot).state.store(to, Ordering::SeqCst);/s'
  'held_though_revoked'     's/held \|\| await_end\(me\)/{ await_end(me); true }/'
  'revoked_by_store'        's/let won = other\s*\.state\s*\.compare_exchange\(state, revoked.*?is_ok\(\);/let won = true; other.state.store(revoked, Ordering::SeqCst);/s'
  'revoked_without_locks'   's/other\.leases\.unlock\(owner\);//'
  'revoked_before_locks'    's/(other\.leases\.unlock\(owner\);)(.*?\.store\(state_of\(version\(state\), IDLE\), Ordering::Release\);)/$2 $1/s'
  'kept_without_release'    's/(state_of\(me\.since, KEPT\), )Ordering::Release/$1Ordering::Relaxed/'
  'end_keeps_locks'         's/peer\(me\.slot\)\.leases\.unlock\(me\);//'
  'seen_marks_are_dead'     's/mark < seen as u16/mark <= seen as u16 + 1/'
  'wraps_do_not_count'      's/ && \(seen >> 32\) as u32 == wraps//'
  'region_is_no_matter'     's/region\(g\)\.load\(Ordering::SeqCst\) == 0 && lock/lock/; s/while region\(g\).*? != 0 /while false /'
  'overwritten_unnoticed'   's/ && lock\(g\)\.load\(Ordering::Acquire\) == me\.lock_word\(\)//'
  'together_without_fence'  's/(in `try_lock` does\.\n\s*)fence\(Ordering::SeqCst\);/$1/'
  'heir_after_release'      's/(let heir = self\.heir\.swap.*?;\n)/$1        self.word.store(0, Ordering::Release);\n/'
  'heir_stays'              's/self\.heir\.swap\(0, Ordering::AcqRel\)/self.heir.load(Ordering::Acquire)/'
  'handoff_without_release' 's/self\.word\.store\(held_by\(heir\) \| WAITERS, Ordering::Release\)/self.word.store(held_by(heir) | WAITERS, Ordering::Relaxed)/'
  'pin_is_no_matter'        's/Err\(now\) if now == me << 1 \| PINNED => give_way_to_owner\(\),/Err(now) if now == me << 1 | PINNED => return true,/'
  'taken_over_without_pin'  's/\.compare_exchange\(\s*lender,\s*lender \| PINNED,\s*Ordering::Acquire,\s*Ordering::Relaxed,?\s*\)\s*\.is_err\(\)/.load(Ordering::Acquire) != lender/'
  'taken_over_before_word'  's/(self\.word\.store\(held_by\(me\) \| WAITERS, Ordering::Release\);)\s*(self\.lent\.store\(0, Ordering::Release\);)/$2 $1/'
  'enters_without_fence'    's/(either that sees us inside, or we see the word\.\n\s*)light_fence\(\);/$1/'
  'leaves_a_bias_without_fence' 's/(fn leave\(.*?As in `enter`\.\n\s*)light_fence\(\);/$1/s'
  'unbiases_without_fence'  's/(light fences in `enter`, `leave`, `lend` and `claim`\.\n\s*)heavy_fence\(\);/$1/'
  'bias_ends_inside'        's/if inside == OUTSIDE \{ 0 \} else \{ word & !BIASED \}/0/'
  'enters_what_has_ended'   's/word & !WAITERS == held_by\(me\);/true;/'
  'one_word_for_all'        's/self\.slot\.load\(Ordering::Relaxed\) as usize/0/; s/slot as usize/0/g'
  'taken_over_with_bias'    's/BIASED == 0 && may\(\)/BIASED != 99 \&\& may()/'
  'claims_unseen'           's/(pub fn claim_without_bias.*?)Ordering::Acquire, Ordering::Acquire/$1Ordering::Relaxed, Ordering::Relaxed/s; s/(fn is_left_with.*?)Ordering::Acquire/$1Ordering::Relaxed/s'
  'lends_without_fence'     's/(pub fn lend\(.*?As in `enter`\.\n\s*)light_fence\(\);/$1/s'
  'claims_without_fence'    's/(pub fn claim\(.*?As in `enter`\.\n\s*)light_fence\(\);/$1/s'
  'loan_is_not_seen'        's/if inside == LENT \{/if false {/'
  'loan_is_not_made_up_for' 's/(pub fn lend_without_bias.*?)self\.lent\.store\(me << 1, Ordering::Release\);/$1/s'
  'lends_what_is_lost'      's/&& self\.word\.load\(Ordering::Relaxed\) >> SHIFT == me\n//'
  'claims_what_is_lost'     's/Err\(_\) => return self\.word.*? == me,/Err(_) => return true,/'
  'lends_at_the_end'        's/(`lent_by` asks `inside` then\.\n\s*if self\.word\.load\(Ordering::Relaxed\)) & !ENDING/$1/'
  'asks_the_owner_first'    's/!self\.lent_by\(me, slot\) && self\.owner\(\) == me/self.owner() == me \&\& !self.lent_by(me, slot)/'
  'lost_twice'              's/false => word >> SHIFT == me && self\.lent/false => self.lent/'
  'loan_read_before_word'   's/(and the word of who has taken it over\.\n\s*let word = self\.word\.load\(Ordering::)Acquire/$1Relaxed/'
  'loan_read_without_word'  's/(== me && self\.lent\.load\(Ordering::)Acquire/$1Relaxed/'
  'keeps_what_was_not_lent' 's/Err\(_\) => return self\.word.*? == me,/Err(_) => return false,/'
  'joins_without_fence'     's/(Pairs with the fence in `close`\.\n\s*)fence\(Ordering::SeqCst\);/$1/'
  'closes_without_fence'    's/(Pairs with the fence in `join`\.\n\s*)fence\(Ordering::SeqCst\);/$1/; s/(held_by\(me\), )Ordering::SeqCst/$1Ordering::Acquire/'
  'joins_what_is_held'      's/if lock\.is_free\(\)/if lock.is_free() || true/'
  'leaves_without_release'  's/member\.store\(0, Ordering::Release\)/member.store(0, Ordering::Relaxed)/'
  'free_without_acquire'    's/self\.word\.load\(Ordering::Acquire\) == 0/self.word.load(Ordering::Relaxed) == 0/'
  'live_marks_do_not_count' 's/mark & !1 == version\(state\)/mark == version(state) + 2/'
)
# Needs no notice: release and acquire of request and answer order marks and locks already, and a reader
# that has answered fences its further reads.
equivalent=answer_without_fence
missed=0
for ((i = 0; i < ${#mutations[@]}; i += 2)); do
  name=${mutations[i]}
  if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
  for file in "${files[@]}"; do
    perl -0pe "${mutations[i + 1]}" "$copy/original/$file.rs" > "$copy/runtime/src/$file.rs"
  done
  if (cd "$copy/original" && for f in *.rs; do cmp -s "$f" "../runtime/src/$f" || exit 1; done); then
    echo "$name: the expression matches nothing any more"
    missed=1
    continue
  fi
  if ! (cd "$copy" && cargo test --no-run --quiet --release -p ame-rt --test loom) 2> "$copy/log"; then
    echo "$name: does not compile"
    tail -n 20 "$copy/log"
    missed=1
  elif out=$(cd "$copy" && timeout 300 cargo test --quiet --release -p ame-rt --test loom 2>&1); then
    if [ "$name" = "$equivalent" ]; then
      echo "$name: not noticed, as expected: an equivalent"
    else
      echo "$name: NOT NOTICED"
      missed=1
    fi
  else
    echo "$name: noticed by $(grep -oE '^test [a-z_]+ \.\.\. FAILED|^    [a-z_]+$' <<< "$out" | sed -E 's/^test //; s/ \.\.\..*//; s/ //g' | sort -u | tr '\n' ' ')"
  fi
done
exit $missed
