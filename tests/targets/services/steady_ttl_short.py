# SPDX-License-Identifier: MIT
"""a store whose entries live 5 s"""

import ttlstore

# It levels off within 5 s of the start: an observer who comes 2 s after it may see the end of that.
RIGHT = ("steady", "levelling")

if __name__ == "__main__":
    ttlstore.run(lifetime=5)
