"""Keeps a processor of OCR-D loaded, and runs it again and again: a program of its own.

It is run by the interpreter that the processor is installed for, so it needs nothing but Python 3.9
and what the processor brings along. `running` starts it and speaks to it:

    python warm.py --serve FD /path/of/ocrd-x

- Orders come in on standard input, answers go out on the descriptor FD: each a JSON object in one
  line, UTF-8. Standard output and error are for what processors print; they find nothing to read.
- First it loads what it needs. What is printed meanwhile goes to where it was started to print.
  Then it says {"ready": true}, or {"ready": false, "error": "why"} and ends.
- An order is one run, and the next one comes after its answer:
    run                the id of the run
    folder             absolute path of the folder of the workspace; hrefs are relative to it
    mets               name of the METS file in there, which is this run's alone: it is read, and
                       written whole once the run has succeeded
    input_file_grps    list of names
    output_file_grps   list of names
    page_id            ids of pages, joined by commas; '' for all
    parameters         object, checked, with its defaults
    existing_output    SKIP, OVERWRITE or ABORT: what happens to pages that have output already
    log                path of a file; all that is printed during the run is appended to it
    tmp                a folder for temporary files, which is removed after the run
- The answer is {"run": id, "ok": true}, or {"run": id, "ok": false, "error": "a line"}; the
  log says more then. What is an error is logged as OCR-D does: `HH:MM:SS.mmm ERROR logger - text`.
- It ends when its input ends, at once, in the middle of a run as well: nobody waits for it then.
"""
