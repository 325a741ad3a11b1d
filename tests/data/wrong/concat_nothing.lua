return concat {}
