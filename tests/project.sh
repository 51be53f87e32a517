#!/usr/bin/env bash
# The life of one project: three sweeps, over two days, on two machines; then one folder, a paper,
# and a reader who checks it. Every step is a command that a user would type.
#
#     bash tests/project.sh FOLDER      (an empty folder; takes about a minute)
set -euo pipefail
cd "$1"
mkdir laptop server joined reader yesterday
small="width=32 batch=16 epochs=3 dataset.num_train=2000 dataset.num_val=1000"

# Yesterday, on the laptop: a sweep that is to answer a question, and a run with a slip of the hand.
cat > yesterday/sitecustomize.py <<'PYTHON'
import time

now, now_ns = time.time, time.time_ns
time.time = lambda: now() - 86_400
time.time_ns = lambda: now_ns() - 86_400 * 10**9
PYTHON
here=${PYTHONPATH-}
export PYTHONPATH="$1/yesterday:$here"
cd "$1/laptop"
python -m harness.run -m $small batch=16,64 seed=1,2,3 name=batches question="Is 16 better than 64?"
python -m harness.run $small lr=1e9 name=slip

# Today, on the server: two more sweeps.
export PYTHONPATH="$here"
cd "$1/server"
python -m harness.run -m $small lr=0.1,0.5 seed=1,2,3 name=rates
python -m harness.run -m $small width=32,64 seed=1,2,3 name=widths note="64 for the paper?"
python -m harness pack rates widths --to server.zip

# On the laptop: the bad run goes, comes back, and is noted instead.
cd "$1/laptop"
python -m harness rm slip --yes
python -m harness status > without.txt
python -m harness restore slip
python -m harness note slip "lr was 1e9 by mistake"

# Both folders read as one, before anything is copied.
cd "$1"
python -m harness export runs --outputs laptop/outputs --outputs server/outputs --to both.csv

# Joined, by folder and by file; joining again changes nothing.
cd "$1/joined"
python -m harness merge ../laptop/outputs
python -m harness merge ../server/server.zip
python -m harness merge ../server/outputs > again.txt
python -m harness status > status.txt
python -m harness status since=12h --json > today.json
python -m harness diff batch=64,seed=1 lr=0.1,seed=1 > diff.txt
python -m harness compare batches rates widths > compare.txt

python -m harness sync rates > synced.txt
python -m harness evaluate lr=0.1,seed=2 --json > evaluated.json

# The paper.
python -m harness export latex batches rates widths --to paper/table.tex
python -m harness export figures batches rates widths --format pdf --to paper/figures
python -m harness export sentence batches rates widths > paper/claims.txt
python -m harness export runs batches rates widths --to paper/runs.csv
python -m harness pack batches rates widths --to paper/runs.zip

# The reader opens it elsewhere and trains the best run again.
cd "$1/reader"
python -m harness merge ../joined/paper/runs.zip
python -m harness export runs batches rates widths --to runs.csv
python -m harness reproduce "$(
    python -c "import harness; print(harness.runs().sort_values('val/error')['run'].iloc[0])"
)" > reproduced.txt
