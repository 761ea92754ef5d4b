# SPDX-License-Identifier: MIT
"""a store whose entries live 25 s"""

import ttlstore

# It levels off 25 s after the start, within the window of an observer who comes early; steady to a later one.
RIGHT = ("levelling", "steady")

if __name__ == "__main__":
    ttlstore.run(lifetime=25)
