"""The generator of the example workspace: a fictional property appraisal office, made from one seed.

`world` draws parcels, sales and users; `valuation` applies the rules of the office's own handbook, so that the
reports, the database and the handbook agree; `database`, `writers` and `spreadsheets` turn them into files; `tree`
joins all of it. Called by `generate.py` alone. The invariant: the same sources give the same files, whatever the
day and the machine.
"""
