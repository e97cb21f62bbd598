"""The names in Redis, and the changes that must happen whole or not at all.

Names hold no student's id and no idempotency key, only hashes. Every key gets its time to live in the script that
writes it. Keys are built inside one script, and several are touched by one: a single Redis (with replicas or not),
not a Redis Cluster.
"""

from __future__ import annotations

import hashlib

PREFIX = "studyai:"
LEASE_PREFIX = f"{PREFIX}engine:"
NO_KEY = f"{PREFIX}none"
"""A key that never exists: what is tried on it, such as writing nothing, only tells whether Redis takes it."""

APPEND = """
-- KEYS: log[, claim]. ARGV: last id of the log ('' without one), new id, entry, milliseconds to live,
-- claim state (live, ended, released), answer, fingerprint, engine.
local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local last = top and top[1] or ''
if last ~= ARGV[1] then return last end
if ARGV[2] ~= last then redis.call('XADD', KEYS[1], ARGV[2], 'e', ARGV[3]) end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if not KEYS[2] then return 'OK' end
local holder = redis.call('HGET', KEYS[2], 'answer')
if holder and holder ~= ARGV[6] then return 'OK' end
if ARGV[5] == 'released' then
  redis.call('DEL', KEYS[2])
else
  redis.call('HSET', KEYS[2], 'answer', ARGV[6], 'fingerprint', ARGV[7], 'engine', ARGV[8])
  if ARGV[5] == 'ended' then redis.call('HSET', KEYS[2], 'ended', '1') end
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return 'OK'
"""

CLAIM = """
-- KEYS: claim, log. ARGV: answer, fingerprint, engine, milliseconds to live, entry with the start, lease prefix.
-- Returns nothing when the key is claimed, else who holds it, and whether that engine lives. A live claim of the same
-- engine may be overwritten: it belongs to an answer that engine has given up, since an engine asks only for keys it
-- does not hold.
local held = redis.call('HMGET', KEYS[1], 'answer', 'fingerprint', 'engine', 'ended')
if held[1] and (held[4] or held[3] ~= ARGV[3]) then
  return {held[1], held[2], held[3], held[4] and 1 or redis.call('EXISTS', ARGV[6] .. held[3])}
end
redis.call('HSET', KEYS[1], 'answer', ARGV[1], 'fingerprint', ARGV[2], 'engine', ARGV[3])
redis.call('HDEL', KEYS[1], 'ended')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('XADD', KEYS[2], '0-1', 'e', ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {}
"""

FORGET = """
-- KEYS: log[, claim]. ARGV: answer.
redis.call('DEL', KEYS[1])
if KEYS[2] and redis.call('HGET', KEYS[2], 'answer') == ARGV[1] then redis.call('DEL', KEYS[2]) end
return 'OK'
"""

DISOWN = """
-- KEYS: log. ARGV: answer. For a log that nobody writes any more; nothing happens where it has its ending.
local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not top or cjson.decode(top[2][2])['end'] then return 0 end
local start = cjson.decode(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2][2])['start']
redis.call('DEL', KEYS[1])
if start and start['claim'] ~= '' and redis.call('HGET', start['claim'], 'answer') == ARGV[1] then
  redis.call('DEL', start['claim'])
end
return 1
"""

LOSE = """
-- KEYS: mark[, claim]. ARGV: answer, milliseconds to live. Releases the claim; returns 1 to the first engine to say so.
if KEYS[2] and redis.call('HGET', KEYS[2], 'answer') == ARGV[1] then redis.call('DEL', KEYS[2]) end
return redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[2]) and 1 or 0
"""

REMEMBER_TURN = """
-- KEYS: turns. ARGV: turn, answer, most turns, milliseconds to live. A turn begins with its answer's id.
for _, turn in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if ARGV[2] ~= '' and string.sub(turn, 1, #ARGV[2]) == ARGV[2] then return 0 end
end
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[3]), -1)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""


def log_name(answer_id: str) -> str:
    """The stream of an answer."""
    return f"{PREFIX}answer:{answer_id}:log"


def lost_name(answer_id: str) -> str:
    """The mark of an answer whose engine is gone."""
    return f"{PREFIX}answer:{answer_id}:lost"


def lease_name(engine_id: str) -> str:
    """The key that exists for as long as an engine lives."""
    return f"{LEASE_PREFIX}{engine_id}"


def channel_name(engine_id: str) -> str:
    """The channel on which other engines talk to one."""
    return f"{PREFIX}engine:{engine_id}:control"


def claim_name(student_id: str, key: str) -> str:
    """Which answer an idempotency key names."""
    return f"{PREFIX}key:{_hash(student_id, key)}"


def session_name(student_id: str, session_id: str) -> str:
    """The beginning of the names of a session's keys."""
    return f"{PREFIX}session:{_hash(student_id, session_id)}"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
